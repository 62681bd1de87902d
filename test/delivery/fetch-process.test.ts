import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import type { ArtifactRef } from '../../src/format/manifest.ts';
import { hostFiles } from '../../src/system/files.ts';
import { type Answer, badServer, drip, rangeStart, serve } from '../support/bad-server.ts';
import { noise } from '../support/fetch-bench.ts';
import { artifactOf } from '../support/keys.ts';
import { temporaryFolder } from '../support/temp.ts';

function fetcher(root: string, url: string, artifact: ArtifactRef): ChildProcess & { stdout: NodeJS.ReadableStream } {
  const child = spawn(process.execPath, ['test/support/fetch-child.ts', root, url, JSON.stringify(artifact)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child as ChildProcess & { stdout: NodeJS.ReadableStream };
}

test('T33 killed in the middle, the next run goes on from there', async () => {
  const bytes = noise(1 << 20);
  const artifact = artifactOf('system.squashfs', bytes);
  const root = await temporaryFolder();
  const server = await badServer(drip(bytes, 600_000, 100_000), serve(bytes));
  const first = fetcher(root, server.url, artifact);
  for await (const line of first.stdout) if (String(line).includes('600000')) break;
  first.kill('SIGKILL');
  await once(first, 'exit');

  const second = fetcher(root, server.url, artifact);
  await Promise.all([once(second, 'exit'), text(second.stdout)]);
  expect(second.exitCode).toBe(0);
  expect(rangeStart(server.requests[1])).toBe(600_000);
  expect(await hostFiles(root).hash('/data/updates/staging/system.squashfs')).toMatchObject({
    sha256: artifact.sha256,
  });
});

test('T21 an image of 400 MiB needs no more memory than one of 100 MiB', async () => {
  const block = noise(1 << 20);
  const imageOf = (blocks: number): ArtifactRef => {
    const hash = createHash('sha256');
    for (let i = 0; i < blocks; i++) hash.update(block);
    return { artifact: 'system.squashfs', sha256: hash.digest('hex'), size_bytes: block.length * blocks };
  };
  const serveBlocks =
    ({ size_bytes }: ArtifactRef): Answer =>
    (_request, response) => {
      response.writeHead(200, { 'content-length': size_bytes });
      let left = size_bytes / block.length;
      const pump = () => {
        while (left > 0) {
          left--;
          if (!response.write(block)) return;
        }
        response.end();
      };
      response.on('drain', pump);
      pump();
    };
  const memoryMibOf = async (image: ArtifactRef) => {
    const child = fetcher(await temporaryFolder(), (await badServer(serveBlocks(image))).url, image);
    const [output] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    expect(child.exitCode).toBe(0);
    return Number(/most memory: (\d+) KiB/.exec(output)?.[1]) / 1024;
  };
  const [mediumMib, largeMib] = [await memoryMibOf(imageOf(100)), await memoryMibOf(imageOf(400))];
  expect(largeMib - mediumMib).toBeLessThan(64);
});
