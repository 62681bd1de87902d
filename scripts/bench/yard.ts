import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { appendFile, copyFile, mkdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { MB } from './row.ts';
import { startUpdateServer, TOKEN } from './update-server.ts';

/** A release engineer and an update server, both the built programs. */
export interface Yard extends AsyncDisposable {
  readonly url: string;
  readonly keyring: string;
  /** Publishes a release that is an image of this size and nothing else. */
  publish(version: string, image: ImageRequest): Promise<PublishedImage>;
}

export interface ImageRequest {
  readonly sizeBytes: number;
  /** Of what the file system is followed by; holes take no room where they are made. */
  readonly filledWith: 'noise' | 'zeros';
}

export interface PublishedImage {
  readonly version: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly url: string;
}

const BLOCK_BYTES = 8 << 20;

export async function openYard(folder: string): Promise<Yard> {
  await mkdir(folder);
  const keyring = join(folder, 'keyring.json');
  await release('keygen', '--key-id', 'bench', '--kind', 'development', '--out', folder, '--keyring', keyring);
  const server = await startUpdateServer(join(folder, 'releases'), { KEYRING: keyring });
  const boot = await bootable(folder);
  return {
    url: server.url,
    keyring,
    publish: async (version, request) => {
      const image = join(folder, `system-${version}.squashfs`);
      await makeImage(image, boot, request);
      const sha256 = await sha256Of(image);
      const manifest = join(folder, `manifest-${version}.json`);
      await release('manifest', '--version', version, '--channel', 'dev', '--image', image, '--out', manifest);
      await release('sign', manifest, '--key', join(folder, 'bench.private.json'), '--keyring', keyring);
      const signed = join(folder, `manifest-${version}.signed.json`);
      await release('publish', signed, image, '--keyring', keyring, '--server', server.url);
      await rm(image);
      const url = `${server.url}/api/v1/quantix-os/releases/${version}/system-${version}.squashfs?channel=dev`;
      return { version, sizeBytes: request.sizeBytes, sha256, url };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const release = (...args: string[]) =>
  execa('dist/qx-release', args, { env: { QX_TOKEN: TOKEN }, stdin: 'ignore', all: true });

/** A squashfs that GRUB could boot, as small as one can be. */
async function bootable(folder: string): Promise<string> {
  const tree = join(folder, 'tree');
  await mkdir(join(tree, 'boot'), { recursive: true });
  for (const name of ['vmlinuz', 'initramfs']) await writeFile(join(tree, 'boot', name), randomBytes(MB));
  const image = join(folder, 'boot.squashfs');
  await execa('mksquashfs', [tree, image, '-comp', 'xz', '-noappend', '-quiet', '-no-progress', '-all-root']);
  return image;
}

/** Images are padded behind their file system; to whoever moves bytes, the padding is image. */
async function makeImage(path: string, boot: string, { sizeBytes, filledWith }: ImageRequest): Promise<void> {
  await copyFile(boot, path);
  if (filledWith === 'zeros') return truncate(path, sizeBytes);
  for (let at = (await stat(path)).size; at < sizeBytes; at += BLOCK_BYTES) {
    await appendFile(path, randomBytes(Math.min(BLOCK_BYTES, sizeBytes - at)));
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  return hash.digest('hex');
}
