import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { applyComponents } from '../../src/delivery/components.ts';
import type { ArchiveRef, Process } from '../../src/ports.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import { hostClock } from '../../src/system/clock.ts';
import { openrc } from '../../src/system/openrc.ts';
import { hostProcess } from '../../src/system/process.ts';
import { componentHost, ENTRIES } from '../support/component-host.ts';
import { type OpenrcRoot, openrcRequirements, withOpenrcRoot } from '../support/openrc.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const program = (line: string): string => `#!/bin/sh\n${line}\n`;
const V1 = program('echo v1 >>/harness/said; exec sleep 600');
const V2 = program('echo v2 >>/harness/said; exec sleep 600');
const DYING = program('echo dying >>/harness/said; sleep 0.3; exit 1');

function prepare(path: string): void {
  const service = [
    '#!/sbin/openrc-run',
    'supervisor=supervise-daemon',
    'command=/data/bin/qx-console',
    'pidfile=/run/console.pid',
    'respawn_max=0',
  ];
  mkdirSync(join(path, 'data/bin'), { recursive: true });
  mkdirSync(join(path, 'quantix'));
  for (const [file, text] of [
    ['etc/init.d/quantix-console', `${service.join('\n')}\n`],
    ['data/bin/qx-console', V1],
  ] as const) {
    writeFileSync(join(path, file), text);
    chmodSync(join(path, file), 0o755);
  }
}

async function packProgram(text: string): Promise<ReadonlyMap<string, ArchiveRef>> {
  const folder = await temporaryFolder();
  writeFileSync(join(folder, 'qx-console'), text, { mode: 0o755 });
  const path = join(folder, 'qx-console.tar.zst');
  return new Map([['qx-console', { path, ...(await packArchive(join(folder, 'qx-console'), path)) }]]);
}

const inside = (root: OpenrcRoot): Process => ({
  run: async (argv) => {
    const { exitCode, output } = await root.run(argv[0], ...argv.slice(1));
    return { exitCode, stdout: output, stderr: '' };
  },
});

async function update(root: OpenrcRoot, text: string): Promise<unknown> {
  const services = openrc('', inside(root));
  const host = componentHost(root.path, await packProgram(text));
  const clock = hostClock(hostProcess());
  const entries = ENTRIES.filter(({ name }) => name === 'qx-console');
  return applyComponents(entries, host.context({ services, clock, settleMs: 2500 }));
}

const said = (root: OpenrcRoot): Promise<string> => readFile(join(root.path, 'harness/said'), 'utf8');

requires(openrcRequirements)('with services of a real OpenRC', () => {
  test('a program that stays up is kept, one that dies under its supervisor is put back and runs again', async () => {
    await withOpenrcRoot({ prepare: async (path) => prepare(path) }, async (root) => {
      await root.run('rc-service', 'quantix-console', 'start');
      await expect.poll(() => said(root)).toBe('v1\n');
      await update(root, V2);
      expect(await said(root)).toBe('v1\nv2\n');

      await expect(update(root, DYING)).rejects.toMatchObject({ code: 'PROBE_FAILED' });
      expect(await readFile(join(root.path, 'data/bin/qx-console'), 'utf8')).toBe(V2);
      // Twice where its supervisor was quicker than the restart that was ordered.
      await expect.poll(() => said(root)).toMatch(/dying\n(?:v2\n){1,2}$/);
      expect((await root.run('rc-service', 'quantix-console', 'status')).exitCode).toBe(0);
    });
  });
});
