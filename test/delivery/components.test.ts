import { mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { applyComponents, undoComponents } from '../../src/delivery/components.ts';
import { QxError } from '../../src/errors.ts';
import type { ArchiveRef } from '../../src/ports.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import {
  type ComponentHost,
  componentHost,
  dataOf,
  ENTRIES,
  linkAt,
  NEW,
  OLD,
  only,
  packedOnce,
  readTree,
  states,
  writeTree,
} from '../support/component-host.ts';
import { temporaryFolder } from '../support/temp.ts';

const refs = packedOnce();
let root: string;
let host: ComponentHost;
beforeEach(async () => {
  root = await temporaryFolder();
  await writeTree(join(root, 'data'), OLD);
  await mkdir(join(root, 'quantix'));
  host = componentHost(root, refs);
});

const data = () => dataOf(root);

describe('a whole update', () => {
  test('checklist: swaps files and folders, writes the versions, and keeps a way back', async () => {
    const entries = await applyComponents(ENTRIES, host.context());
    expect(await data()).toEqual(NEW);
    expect(states(entries)).toEqual(['done', 'done', 'done', 'done']);
    expect(await host.journal()).toEqual(entries);
    expect(entries.map(({ kind }) => kind)).toEqual(['directory', 'file', 'file', 'file']);
    expect(entries[1]?.backup).toBe('/data/updates/backup/qx-console/20261110T120000Z-1.0.0/qx-console');
    expect(await linkAt(root, 'data/share/ui')).toBe('.ui.trees/20261110T120001Z-2.0.0');
    expect((await readdir(join(root, 'data/bin'))).sort()).toEqual(['qx-console', 'qx-extra', 'qx-node']);
    expect((await stat(join(root, 'data/bin/qx-extra'))).mode & 0o777).toBe(0o755);
  });

  test('and back again, more than once', async () => {
    const done = await applyComponents(ENTRIES, host.context());
    const undone = await undoComponents(done, host.context());
    expect(await data()).toEqual(OLD);
    expect(states(undone)).toEqual(['undone', 'undone', 'undone', 'undone']);
    expect(host.services.running.get('quantix-console')).toBe('console 1');
    await undoComponents(undone, host.context());
    await undoComponents(done, host.context());
    expect(await data()).toEqual(OLD);
  });

  test('and back again also where its note cannot be taken away', async () => {
    const done = await applyComponents(ENTRIES, host.context());
    const { files } = host.context();
    const remove: typeof files.remove = async (path) => {
      if (path.endsWith('.contents')) throw new QxError('IO', 'read-only');
      await files.remove(path);
    };
    const undone = await undoComponents(done, host.context({ files: { ...files, remove } }));
    expect(await data()).toEqual(OLD);
    expect(states(undone)).toEqual(['undone', 'undone', 'undone', 'undone']);
  });

  test('of a folder that is a symlink already swaps it in one rename and leaves both trees', async () => {
    await applyComponents(only('ui'), host.context());
    const again = only('ui').map((entry) => ({ ...entry, version: '2.0.1', previous_version: '2.0.0' }));
    const entries = await applyComponents(again, host.context());
    expect(entries[0]?.backup).toBe('/data/share/.ui.trees/20261110T120001Z-2.0.0');
    expect(await linkAt(root, 'data/share/ui')).toBe('.ui.trees/20261110T120002Z-2.0.1');
    await undoComponents(entries, host.context());
    expect(await linkAt(root, 'data/share/ui')).toBe('.ui.trees/20261110T120001Z-2.0.0');
    expect(await readdir(join(root, 'data/share/.ui.trees'))).toHaveLength(2);
  });

  test('checklist: restarts each service once, after all its files, and never the agent', async () => {
    const seen: string[] = [];
    const { services } = host;
    const restart = services.restart;
    const watching = {
      ...services,
      restart: async (name: string) => {
        seen.push(
          `${name}: ${(await data())['bin/qx-console']}, ${(await data())['bin/qx-extra']}, ${(await data())['bin/qx-node']}`,
        );
        await restart(name);
      },
    };
    await applyComponents(ENTRIES, host.context({ services: watching }));
    expect(seen).toEqual(['quantix-console: console 2, extra 2, node 1']);
  });

  test('defect 12: the agent is swapped last and goes on to report, instead of ending in the middle', async () => {
    const order: string[] = [];
    const entries = await applyComponents(
      [...ENTRIES].reverse(),
      host.context({ progress: ({ name }) => order.push(name) }),
    );
    expect(order.at(-1)).toBe('qx-node');
    expect(states(entries)).toEqual(['done', 'done', 'done', 'done']);
    expect(host.services.restarts).not.toContain('quantix-node');
  });
});

describe('defect 11: a failure undoes every component of the update, and says so', () => {
  const failures: readonly [string, (host: ComponentHost) => Parameters<ComponentHost['context']>[0], string][] = [
    ['a service does not restart', ({ services }) => void services.failing.add('quantix-console'), 'SERVICE_FAILED'],
    [
      'a service stops a little later',
      ({ services }) => void services.states.set('quantix-console', ['started', 'stopped']),
      'PROBE_FAILED',
    ],
    [
      'a service crashes again and again',
      ({ services }) => void services.states.set('quantix-console', Array(99).fill('crashed')),
      'PROBE_FAILED',
    ],
    [
      'a service never gets started',
      ({ services }) => void services.states.set('quantix-console', Array(99).fill('unknown')),
      'PROBE_FAILED',
    ],
    [
      'a service dies over and over under its supervisor',
      ({ services }) => void services.looping.add('quantix-console'),
      'PROBE_FAILED',
    ],
    [
      'a component says that it is not well',
      () => ({
        probe: async ({ name }) => {
          if (name === 'qx-extra') throw new QxError('PROBE_FAILED', 'not well');
        },
      }),
      'PROBE_FAILED',
    ],
  ];

  test.each(failures)('%s', async (_what, arrange, code) => {
    const overrides = arrange(host);
    const failed = applyComponents(ENTRIES, host.context(overrides));
    await expect(failed).rejects.toMatchObject({ code, message: expect.stringContaining('was put back') });
    expect(await data()).toEqual(OLD);
    expect(states(await host.journal())).toEqual(['undone', 'undone', 'undone', 'undone']);
    expect(host.services.running.get('quantix-console')).toBe('console 1');
  });

  test('a service that takes its time to start is waited for', async () => {
    // Just after a restart its supervisor still names the process that was ended.
    host.services.states.set('quantix-console', ['crashed', 'unknown', 'unknown', 'started']);
    await applyComponents(ENTRIES, host.context());
    expect(await data()).toEqual(NEW);
  });

  test('an undo that fails is told, and does not keep the others from being undone', async () => {
    const { services } = host;
    services.states.set('quantix-console', ['stopped']);
    const restart = async (name: string) => {
      const isSecond = services.restarts.length > 0;
      await services.restart(name);
      if (isSecond) throw new QxError('SERVICE_FAILED', 'gone for good');
    };
    const failed = applyComponents(ENTRIES, host.context({ services: { ...services, restart } }));
    await expect(failed).rejects.toMatchObject({
      code: 'PROBE_FAILED',
      message: expect.stringContaining('gone for good'),
    });
    expect(await data()).toEqual(OLD);
  });

  test('a backup that is gone is told, and the new file stays rather than none', async () => {
    const done = await applyComponents(ENTRIES, host.context());
    await rm(join(root, 'data/updates/backup/qx-console'), { recursive: true });
    await expect(undoComponents(done, host.context())).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await data()).toEqual({ ...OLD, 'bin/qx-console': 'console 2', 'versions/qx-console.version': '2.0.0\n' });
  });

  test('T44 a backup that was changed is told, and the new file, which was signed, stays', async () => {
    const done = await applyComponents(ENTRIES, host.context());
    const { backup } = done.find(({ name }) => name === 'qx-console') ?? {};
    await writeFile(join(root, backup ?? ''), 'evil');
    await expect(undoComponents(done, host.context())).rejects.toMatchObject({ code: 'HASH_MISMATCH' });
    expect(await data()).toEqual({ ...OLD, 'bin/qx-console': 'console 2', 'versions/qx-console.version': '2.0.0\n' });
  });
});

describe('bad bytes are found before anything is touched', () => {
  const withRef = (name: string, ref: Partial<ArchiveRef>) =>
    componentHost(root, new Map([...refs, [name, { ...(refs.get(name) as ArchiveRef), ...ref }]]));

  async function expectUntouched(failing: ComponentHost, code: string, entries = ENTRIES): Promise<void> {
    await expect(applyComponents(entries, failing.context())).rejects.toMatchObject({ code });
    expect(await readTree(join(root, 'data'))).toEqual(OLD);
    expect(failing.services.restarts).toEqual([]);
    expect((await readdir(join(root, 'data/bin'))).sort()).toEqual(['qx-console', 'qx-node']);
  }

  test('T31 a staged archive that was swapped after it was verified', async () => {
    const other = join(root, 'other');
    await writeFile(other, 'evil');
    const path = join(root, 'staged.tar.zst');
    const evil = await packArchive(other, path);
    expect(evil.kind).toBe('file');
    await expectUntouched(withRef('qx-extra', { path }), 'SIZE_MISMATCH');
    const { sizeBytes } = evil;
    await expectUntouched(withRef('qx-extra', { path, sizeBytes }), 'HASH_MISMATCH');
  });

  test.each([
    ['no archive at all', Buffer.from('evil'), 'SIZE_MISMATCH'],
    ['garbage of the same length', Buffer.alloc(1, 'x'), 'HASH_MISMATCH'],
  ])('T31 a staged archive that is %s by now: the release is not blamed for it', async (_title, evil, code) => {
    const { sizeBytes } = refs.get('qx-extra') as ArchiveRef;
    const path = join(root, 'staged.tar.zst');
    await writeFile(path, evil.length === 1 ? Buffer.alloc(sizeBytes, evil) : evil);
    await expectUntouched(withRef('qx-extra', { path }), code);
  });

  test('T31 a staged archive that is a symlink by now', async () => {
    const path = join(root, 'staged.tar.zst');
    await symlink((refs.get('qx-node') as ArchiveRef).path, path);
    await expect(applyComponents(ENTRIES, withRef('qx-node', { path }).context())).rejects.toThrow('ELOOP');
    expect(await data()).toEqual(OLD);
  });

  test('an archive of the wrong kind', async () => {
    const entries = ENTRIES.map((entry) => (entry.name === 'ui' ? { ...entry, kind: 'file' as const } : entry));
    await expectUntouched(host, 'ARCHIVE_UNSAFE', entries);
  });

  test('an archive that unpacks to more than was signed', async () => {
    const entries = ENTRIES.map((entry) => (entry.name === 'qx-node' ? { ...entry, unpacked_size_bytes: 3 } : entry));
    await expectUntouched(host, 'ARCHIVE_TOO_LARGE', entries);
  });

  test('an update that is cancelled', async () => {
    const cancelled = applyComponents(ENTRIES, host.context({ signal: AbortSignal.abort() }));
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await data()).toEqual(OLD);
  });
});
