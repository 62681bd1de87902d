import { closeSync, openSync, readSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BootDecision, type BootState, decideBoot } from '../../src/core/boot.ts';
import { decodeBoot, encodeBoot, SLOTS, type Slot } from '../../src/format/grubenv.ts';
import { type Journal, type Memory, readJournal, readMemory } from '../../src/format/journal.ts';
import { SLOT_BYTES } from './agent-host.ts';
import { readTree } from './component-host.ts';
import type { TestImage } from './images.ts';

/** What the machine itself does to a host in a folder, and what an outsider sees of it. */

/** Version of a system -> the image that it comes in. */
export type KnownImages = ReadonlyMap<string, { readonly image: TestImage; readonly bytes: Uint8Array }>;

/** Version of the system on a slot; null when it is no whole image that we know. */
export function systemOn(root: string, slot: Slot, known: KnownImages): string | null {
  const file = openSync(join(root, 'slots', slot.toLowerCase()), 'r');
  try {
    readSync(file, LOOKED_AT, 0, LOOKED_AT.length, 0);
  } finally {
    closeSync(file);
  }
  for (const [version, { bytes }] of known) {
    if (LOOKED_AT.compare(bytes, 0, bytes.length, 0, bytes.length) === 0) return version;
  }
  return null;
}

/** One for all looks: a new one each time would keep the garbage collector busier than the tests. */
const LOOKED_AT = Buffer.alloc(SLOT_BYTES);

export async function bootState(root: string): Promise<{ state: BootState | null; copy: string; bytes: Uint8Array }> {
  for (const copy of ['grubenv', 'grubenv.bak']) {
    const bytes = new Uint8Array(await readFile(join(root, 'boot/grub', copy)));
    const state = decodeBoot(bytes);
    if (state !== null) return { state, copy, bytes };
  }
  return { state: null, copy: 'none', bytes: new Uint8Array() };
}

/** Power on: what GRUB does, and the system that it starts. `crash` is a kernel that comes no further than this. */
export async function rebootInto(root: string, known: KnownImages): Promise<BootDecision> {
  const { state, copy, bytes } = await bootState(root);
  const readable = { A: systemOn(root, 'A', known) !== null, B: systemOn(root, 'B', known) !== null };
  const decision = decideBoot(state, { readable, canSave: true });
  if (decision.slot === null) throw new Error('nothing is left that boots');
  if (decision.after !== null) await writeFile(join(root, 'boot/grub', copy), encodeBoot(decision.after, bytes));
  const words = [`quantix.slot=${decision.slot}`, `quantix.env=${copy}`];
  if (decision.trial !== '')
    words.push(`quantix.trial=${decision.trial}`, `quantix.tries=${decision.after?.[decision.slot].tries}`);
  if (decision.failed !== '') words.push(`quantix.failed=${decision.failed}`);
  if (decision.failedWhy !== '') words.push(`quantix.failed_why=${decision.failedWhy}`);
  await writeFile(join(root, 'proc/cmdline'), `${words.join(' ')}\n`);
  await writeFile(join(root, 'etc/quantix-version'), `${systemOn(root, decision.slot, known)}\n`);
  await rm(join(root, 'run'), { recursive: true, force: true });
  return decision;
}

/** Component -> version, as the installed bytes have it; 'torn' where they are of no version at all. */
export async function installedBytes(root: string): Promise<Readonly<Record<string, string>>> {
  const programs = await readTree(join(root, 'data/bin'));
  const pages = await readTree(join(root, 'data/share'));
  const contents = {
    'qx-console': programs['qx-console'],
    'host-ui': pages['host-ui/index.html'],
    'qx-node': programs['qx-node'],
  };
  const versionIn = (name: string, content = ''): string =>
    new RegExp(`^${name} ([0-9.]+)$`).exec(content)?.[1] ?? 'torn';
  return Object.fromEntries(Object.entries(contents).map(([name, content]) => [name, versionIn(name, content)]));
}

/** Component -> version, as the version files say. */
export async function installedVersions(root: string): Promise<Readonly<Record<string, string>>> {
  const data = await readTree(join(root, 'data/versions'));
  return Object.fromEntries(
    Object.entries(data)
      .filter(([file]) => file.endsWith('.version'))
      .map(([file, text]) => [file.replace('.version', ''), text.trim()]),
  );
}

export const journalOf = async (root: string): Promise<Journal | null> =>
  readFile(join(root, 'quantix/ab-update-state.json')).then(
    (bytes) => readJournal(bytes),
    (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? null : Promise.reject(error)),
  );

export const memoryOf = async (root: string): Promise<Memory | null> =>
  readFile(join(root, 'quantix/limiquantix/state.json')).then(
    (bytes) => readMemory(bytes),
    (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? null : Promise.reject(error)),
  );

export const okSlots = (state: BootState | null): readonly Slot[] => SLOTS.filter((slot) => state?.[slot].ok === true);
