import { chmod, copyFile, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import { readInstalled } from '../../src/delivery/components/versions.ts';
import { applyComponents, settleComponents, undoComponents } from '../../src/delivery/components.ts';
import type { ComponentEntry } from '../../src/format/journal.ts';
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
  states,
  writeTree,
} from '../support/component-host.ts';
import { recordedLog } from '../support/fakes.ts';
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

describe('what is in the way', () => {
  test('T32 a symlink in the place of a file is not followed, and the update refused', async () => {
    await rm(join(root, 'data/bin/qx-console'));
    await writeFile(join(root, 'secret'), 'untouched');
    await symlink(join(root, 'secret'), join(root, 'data/bin/qx-console'));
    await expect(applyComponents(ENTRIES, host.context())).rejects.toMatchObject({ code: 'PATH_OCCUPIED' });
    expect(await readFile(join(root, 'secret'), 'utf8')).toBe('untouched');
  });

  test('what was a folder becomes a file, and what was a file a folder, and both go back', async () => {
    await rm(join(root, 'data/share/ui'), { recursive: true });
    await writeTree(join(root, 'data'), { 'share/ui': 'ui 1', 'bin/qx-extra/main': 'extra 1' });
    const before = await data();
    const first = await applyComponents(ENTRIES, host.context());
    expect(await data()).toEqual(NEW);
    // Back from a file to the folder that was moved, then forth again, from a link now.
    await undoComponents(first, host.context());
    expect(await data()).toEqual(before);
    await applyComponents(ENTRIES, host.context());
    expect(await data()).toEqual(NEW);
    expect(await linkAt(root, 'data/share/ui')).toContain('.ui.trees/');
  });

  test('a symlink that leads elsewhere is nobody’s to replace by a file, and the refusal says what to do', async () => {
    await rm(join(root, 'data/bin/qx-console'));
    await symlink('/bin/true', join(root, 'data/bin/qx-console'));
    await expect(applyComponents(ENTRIES, host.context())).rejects.toMatchObject({
      code: 'PATH_OCCUPIED',
      next: expect.stringContaining('mv /data/bin/qx-console /data/bin/qx-console.aside'),
    });
  });

  test('T32 planted symlinks at the names that we use while working are not followed', async () => {
    await mkdir(join(root, 'victim'));
    for (const name of ['bin/.qx-console.new', 'bin/.qx-console.restore', 'share/.ui.new', 'share/.ui.trees']) {
      await symlink(join(root, 'victim'), join(root, 'data', name));
    }
    await expect(applyComponents(ENTRIES, host.context())).rejects.toMatchObject({ code: 'IO' });
    expect(await readdir(join(root, 'victim'))).toEqual([]);
    expect(await data()).toEqual(OLD);
  });

  test('left-overs of an attempt that was cut off do not get into the next', async () => {
    await writeTree(join(root, 'data'), {
      'bin/.qx-console.new/stale': 'x',
      'share/.ui.new/stale.js': 'x',
      'bin/.qx-node.restore': 'x',
      'updates/backup/qx-console/.unfinished/qx-console': 'half',
    });
    await applyComponents(ENTRIES, host.context());
    expect(await data()).toEqual(NEW);
  });

  test('defect 13: nothing of the old folder is left in the new one, and no moment mixes both', async () => {
    await applyComponents(only('ui'), host.context());
    expect(Object.keys(await data()).filter((path) => path.startsWith('share/'))).toEqual([
      'share/ui/index.html',
      'share/ui/new/only-in-2.js',
    ]);
  });

  test('defect 14: the member of the archive may have another name, and only it is installed', async () => {
    const folder = join(root, 'limiquantix-node');
    await writeFile(folder, 'node 2');
    const path = join(root, 'qx-node.tar.zst');
    const ref = { path, ...(await packArchive(folder, path)) };
    const other = componentHost(root, new Map([...refs, ['qx-node', ref]]));
    await applyComponents(ENTRIES, other.context());
    expect(await data()).toEqual(NEW);
  });

  test('ETXTBSY: a program that runs is replaced and put back', async () => {
    await rm(join(root, 'data/bin/qx-console'));
    await copyFile('/bin/sleep', join(root, 'data/bin/qx-console'));
    await chmod(join(root, 'data/bin/qx-console'), 0o755);
    const before = await readFile(join(root, 'data/bin/qx-console'));
    const running = execa(join(root, 'data/bin/qx-console'), ['600'], { reject: false });
    try {
      await expect(writeFile(join(root, 'data/bin/qx-console'), 'x')).rejects.toMatchObject({ code: 'ETXTBSY' });
      const done = await applyComponents(only('qx-console'), host.context());
      expect((await data())['bin/qx-console']).toBe('console 2');
      await undoComponents(done, host.context());
      expect(await readFile(join(root, 'data/bin/qx-console'))).toEqual(before);
    } finally {
      running.kill('SIGKILL');
      await running;
    }
  });

  test('a host without services says so and swaps all the same', async () => {
    const log = recordedLog();
    const services = { ...host.services, standIn: 'the folder holds no OpenRC' };
    await applyComponents(ENTRIES, host.context({ services, log }));
    expect(await data()).toEqual(NEW);
    expect(log.lines).toContainEqual({
      level: 'info',
      event: 'service_not_restarted',
      fields: { service: 'quantix-console', reason: 'the folder holds no OpenRC' },
    });
    expect(host.services.restarts).toEqual([]);
  });
});

describe('backups', () => {
  const update = async (minor: number, maxBackups: number, fields: Partial<ComponentEntry> = {}) => {
    const entries = only('qx-console', 'ui').map((entry) => ({
      ...entry,
      version: `2.${minor}.0`,
      previous_version: minor === 0 ? '1.0.0' : `2.${minor - 1}.0`,
      ...fields,
    }));
    return applyComponents(entries, host.context({ maxBackups }));
  };

  test('defect 16: as many as configured, the newest, each component for itself, never what is in use', async () => {
    await writeTree(join(root, 'data/updates/backup'), {
      'qx-console-extra/20200101T000000Z-1.0.0/qx-console-extra': 'other',
    });
    for (const minor of [0, 1, 2, 3]) await update(minor, 2);
    const kept = await readdir(join(root, 'data/updates/backup/qx-console'));
    expect(kept).toEqual(['20261110T120002Z-2.1.0', '20261110T120003Z-2.2.0']);
    expect(await readdir(join(root, 'data/updates/backup/qx-console-extra'))).toHaveLength(1);
    const trees = (await readdir(join(root, 'data/share/.ui.trees'))).map((name) => name.replace(/^.*-/, ''));
    expect(trees).toEqual(['2.1.0', '2.2.0', '2.3.0']);
    expect(await linkAt(root, 'data/share/ui')).toMatch(/-2\.3\.0$/);
  });

  test("one that was not wanted is there until the update is settled, and never the agent's", async () => {
    const entries = ENTRIES.map((entry) => ({ ...entry, keep_backup: false }));
    const done = await applyComponents(entries, host.context());
    await undoComponents(done, host.context());
    expect(await data()).toEqual(OLD);

    const settled = await settleComponents(await applyComponents(entries, host.context()), host.context());
    expect(states(settled)).toEqual(['final', 'final', 'final', 'done']);
    expect(await readdir(join(root, 'data/share/.ui.trees'))).toHaveLength(1);
    expect(await readdir(join(root, 'data/updates/backup/qx-node'))).not.toEqual([]);
    const log = recordedLog();
    await undoComponents(settled, host.context({ log }));
    expect(await data()).toMatchObject({ 'bin/qx-console': 'console 2', 'bin/qx-node': 'node 1' });
    expect(log.lines.filter(({ event }) => event === 'undo_without_backup')).toHaveLength(3);
  });
});

describe('installed versions', () => {
  test('defect 18: are read from the disk each time, and what is no version counts as missing', async () => {
    await writeTree(join(root, 'data/versions'), {
      'guest-agent.version': '3.1.0-rc.1',
      'bad.version': '5-beta\n',
      'qx-node.bad': '1.0.0\n',
    });
    const read = () => readInstalled(host.files, '/data/versions').then((found) => Object.fromEntries(found));
    expect(await read()).toEqual({
      'guest-agent': '3.1.0-rc.1',
      'qx-console': '1.0.0',
      'qx-node': '1.0.0',
      ui: '1.0.0',
    });
    await applyComponents(ENTRIES, host.context());
    expect(await read()).toMatchObject({ 'qx-node': '2.0.0', ui: '2.0.0', 'qx-extra': '2.0.0' });
  });
});
