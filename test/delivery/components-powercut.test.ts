import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applyComponents, settleComponents, undoComponents } from '../../src/delivery/components.ts';
import type { ArchiveRef } from '../../src/ports.ts';
import {
  type ComponentHost,
  componentHost,
  ENTRIES,
  freshPorts,
  NEW,
  OLD,
  packAll,
  readTree,
  type Tree,
  writeTree,
} from '../support/component-host.ts';
import { cutAfter, eachMoment } from '../support/powercut.ts';
import { newStates } from '../support/snapshot.ts';

// Thousands of fsyncs, of which nothing is to be learned here: in memory they cost nothing.
const scratch = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const packed = mkdtempSync(join(scratch, 'quantix-test-packed-'));
let refs: ReadonlyMap<string, ArchiveRef>;
beforeAll(async () => {
  refs = await packAll(packed);
  await writeTree(join(packed, 'plain/data'), OLD);
  await mkdir(join(packed, 'plain/quantix'));
  // The same host, once its folder is a symlink to a tree.
  await cp(join(packed, 'plain'), join(packed, 'linked'), { recursive: true });
  const linked = componentHost(join(packed, 'linked'), refs);
  await linked.files.rename('/data/share/ui', '/data/share/.first');
  await linked.files.makeDirectory('/data/share/.ui.trees');
  await linked.files.rename('/data/share/.first', '/data/share/.ui.trees/20260101T000000Z-1.0.0');
  await linked.files.linkAtomic('.ui.trees/20260101T000000Z-1.0.0', '/data/share/ui');
  await writeTree(join(packed, 'turned/data'), TURNED);
  await mkdir(join(packed, 'turned/quantix'));
  await cp(join(packed, 'turned'), join(packed, 'turned and linked'), { recursive: true });
  const turned = componentHost(join(packed, 'turned and linked'), refs);
  await turned.files.makeDirectory('/data/bin/.qx-extra.trees');
  await turned.files.rename('/data/bin/qx-extra', '/data/bin/.qx-extra.trees/20260101T000000Z-1.0.0');
  await turned.files.linkAtomic('.qx-extra.trees/20260101T000000Z-1.0.0', '/data/bin/qx-extra');
});
afterAll(() => rmSync(packed, { recursive: true }));

/** What is a folder in the new release was a file, and the other way round. */
const TURNED: Tree = {
  ...Object.fromEntries(Object.entries(OLD).filter(([path]) => !path.startsWith('share/ui'))),
  'share/ui': 'ui 1',
  'bin/qx-extra/main': 'extra 1',
  'bin/qx-extra/lib/all': 'of extra 1',
};
const BEFORE: Readonly<Record<string, Tree>> = { plain: OLD, linked: OLD, turned: TURNED, 'turned and linked': TURNED };

function copyOf(folder: string): string {
  const root = mkdtempSync(join(packed, 'host-'));
  cpSync(folder, root, { recursive: true, verbatimSymlinks: true });
  return root;
}

const dataOf = async (root: string): Promise<Tree> =>
  Object.fromEntries(
    Object.entries(await readTree(join(root, 'data'))).filter(([path]) => !path.startsWith('updates/')),
  );

/** What the agent does when it starts and finds this journal. */
async function recover(host: ComponentHost, before: Tree): Promise<Tree> {
  const entries = (await host.journal()) ?? ENTRIES;
  if (entries.every(({ state }) => state === 'done' || state === 'final')) return NEW;
  const undone = await undoComponents(entries, host.context());
  expect(undone.every(({ state }) => state === 'undone')).toBe(true);
  return before;
}

/** Answers how many effects the work has. */
async function cutEverywhere(start: string, work: (host: ComponentHost) => Promise<unknown>): Promise<number> {
  const root = copyOf(join(packed, start));
  const isNew = newStates();
  const effects = { count: 0 };
  const powerGoes = async (count: number): Promise<void> => {
    effects.count = count;
    if (!isNew(root)) return;
    const left = copyOf(root);
    const host = componentHost(left, refs);
    const before = BEFORE[start] ?? OLD;
    const expected = await recover(host, before);
    expect(await dataOf(left), `cut after effect ${count}`).toEqual(expected);
    // Recovery again is nothing new, and the update then goes through.
    await recover(host, before);
    expect(await dataOf(left)).toEqual(expected);
    await applyComponents(ENTRIES, host.context());
    expect(await dataOf(left)).toEqual(NEW);
    rmSync(left, { recursive: true });
  };
  await work(componentHost(root, refs, eachMoment(freshPorts(root), powerGoes))).catch((error: unknown) => {
    if (!String(error).includes('was put back')) throw error;
  });
  await powerGoes(effects.count + 1);
  return effects.count;
}

const update = (host: ComponentHost) => applyComponents(ENTRIES, host.context());
const failedUpdate = (host: ComponentHost) => {
  host.services.states.set('quantix-console', ['stopped']);
  return applyComponents(ENTRIES, host.context());
};
const unkept = async (host: ComponentHost) => {
  const entries = ENTRIES.map((entry) => ({ ...entry, keep_backup: false }));
  await settleComponents(await applyComponents(entries, host.context()), host.context());
};

describe.each(Object.keys(BEFORE))('T33 the power goes, on a host whose folder is %s', (start) => {
  test('after each effect of an update: old or new, never neither, and the second run converges', async () => {
    expect(await cutEverywhere(start, update)).toBeGreaterThan(50);
  }, 240_000);

  test('after each effect of an update that fails and is undone: old', async () => {
    const effects = await cutEverywhere(start, failedUpdate);
    expect(effects).toBeGreaterThan(60);
  }, 240_000);
});

test('T33 the power goes while an update is settled whose backups are not kept', async () => {
  expect(await cutEverywhere('plain', unkept)).toBeGreaterThan(50);
}, 240_000);

test('T33 the power goes again and again while undoing', async () => {
  const root = copyOf(join(packed, 'plain'));
  const host = componentHost(root, refs);
  await update(host);
  const done = (await host.journal()) ?? [];
  for (let count = 0; ; count++) {
    const { ports, isOff } = cutAfter(freshPorts(root), count);
    const cut = componentHost(root, refs, ports);
    await undoComponents(done, cut.context()).catch(() => undefined);
    if (!isOff()) break;
  }
  expect(await dataOf(root)).toEqual(OLD);
  rmSync(root, { recursive: true });
});
