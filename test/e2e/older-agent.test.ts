import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type HostFolder, hostFolder, NEW_CONSOLE, releaseServer } from '../support/agent.ts';
import { until } from '../support/journey-host.ts';
import { buildOlder, hasOlderCode, OLDER } from '../support/older-agent.ts';
import { requires } from '../support/requires.ts';

/** The format rule, with two executables: the older one reads, keeps and takes back what the newer one wrote. */

/** Folders with an executable under each of its names. */
const NEWER = 'dist';
const JOURNAL = 'quantix/ab-update-state.json';
const MEMORY = 'quantix/limiquantix/state.json';
const UNKNOWN = { x_newer: { since: '1.9', list: [1, 2] } };

const build = { folder: '', older: '' };
const isThere = await hasOlderCode();
const run = (dist: string, host: HostFolder, ...args: string[]) =>
  execa(join(dist, 'qx-update'), ['--root', host.path, ...args], { reject: false, all: true, stdin: 'ignore' });
const json = async (host: HostFolder, file: string) => JSON.parse(await readFile(join(host.path, file), 'utf8'));

async function startAgent(dist: string, host: HostFolder) {
  const agent = execa(join(dist, 'qx-node'), ['--root', host.path], { reject: false, all: true, stdin: 'ignore' });
  onTestFinished(() => void agent.kill('SIGKILL'));
  await until('the agent listens', async () => (await run(NEWER, host, 'status')).exitCode !== 10);
  return { ended: agent };
}

/** A host that the newer agent brought to 1.1.0, console and agent. */
async function updatedByNewer(): Promise<HostFolder> {
  const server = await releaseServer({ 'qx-console': NEW_CONSOLE, 'qx-node': 'the new agent\n' });
  const host = await hostFolder(server.settings);
  await server.trustIn(host);
  await host.write('run/quantix/node-start', '1.0.0 17\n');
  await host.write('data/bin/qx-node', 'the old agent\n', 0o755);
  await host.write('data/versions/qx-node.version', '1.0.0\n');
  const { ended } = await startAgent(NEWER, host);
  const applied = await run(NEWER, host, 'apply');
  expect(applied, applied.all).toMatchObject({ exitCode: 0 });
  // It makes way for its successor.
  await ended;
  expect(await json(host, JOURNAL)).toMatchObject({ phase: 'complete', target_version: '1.1.0' });
  return host;
}

/** As a minor version that is newer still would write it: with a field more in every object that has named ones. */
function withUnknown(value: unknown, name = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => withUnknown(item));
  if (typeof value !== 'object' || value === null) return value;
  const inner = Object.entries(value).map(([key, item]) => [key, withUnknown(item, key)]);
  return { ...Object.fromEntries(inner), ...(name === 'high_water' ? {} : UNKNOWN) };
}

const why = isThere ? '' : ` (skipped: this clone does not go back to ${OLDER})`;

describe.skipIf(!isThere)(`what a newer agent wrote${why}`, () => {
  requires({ commands: ['git', 'tar'], files: { 'dist/qx-node': 'npm run build' } })(
    'is read by an older executable',
    () => {
      beforeAll(async () => {
        build.folder = await mkdtemp(join(tmpdir(), 'quantix-older-'));
        build.older = await buildOlder(build.folder, '0.0.9');
      }, 240_000);
      afterAll(() => rm(build.folder, { recursive: true, force: true }));

      test('it is another one', async () => {
        expect((await execa(join(build.older, 'qx-node'), ['--version'])).stdout).toContain('qx-node 0.0.9');
        expect((await execa(join(NEWER, 'qx-node'), ['--version'])).stdout).not.toContain('0.0.9');
      });

      test('status and rollback work, and fields that it does not know are kept', { timeout: 240_000 }, async () => {
        const host = await updatedByNewer();
        for (const file of [JOURNAL, MEMORY]) {
          const known = await json(host, file);
          await writeFile(join(host.path, file), `${JSON.stringify(withUnknown(known))}\n`);
        }
        await host.write('data/versions/qx-node.proven', '1.0.0\n');
        await host.write('data/versions/qx-node.bad-reason', '1.0.9 is no program that this host can execute\n');
        await startAgent(build.older, host);
        expect(JSON.parse((await run(build.older, host, 'status', '--json')).stdout)).toMatchObject({
          status: 'complete',
        });
        const back = await run(build.older, host, 'rollback');
        expect(back, back.all).toMatchObject({ exitCode: 0 });
        expect(await readFile(join(host.path, 'data/bin/qx-console'), 'utf8')).toBe('the old console\n');
        expect(await readFile(join(host.path, 'data/bin/qx-node'), 'utf8')).toBe('the old agent\n');
        const [journal, memory] = [await json(host, JOURNAL), await json(host, MEMORY)];
        expect(journal).toMatchObject({ phase: 'rolledBack', ...UNKNOWN });
        expect(journal.components).toMatchObject([UNKNOWN, UNKNOWN]);
        expect(memory).toMatchObject({ bad: [{ version: '1.1.0' }], slots: UNKNOWN, ...UNKNOWN });
      });

      test.each([JOURNAL, MEMORY])(
        'format 2 of %s is refused, named and left alone',
        { timeout: 240_000 },
        async (file) => {
          const host = await updatedByNewer();
          const path = join(host.path, file);
          await writeFile(path, `${JSON.stringify({ ...(await json(host, file)), format: 2 })}\n`);
          const before = await readFile(path);
          const { ended } = await startAgent(build.older, host);
          const refused = { exitCode: 1, all: expect.stringMatching(/STATE_TOO_NEW(.|\n)*start the newer qx-node/) };
          expect(await run(build.older, host, 'apply')).toMatchObject(refused);
          expect(await run(build.older, host, 'rollback')).toMatchObject(refused);
          expect(await readFile(path)).toEqual(before);
          expect(await Promise.race([ended, 'is up'])).toBe('is up');
        },
      );
    },
  );
});
