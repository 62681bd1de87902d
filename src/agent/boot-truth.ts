import { type Static, Type } from 'typebox';
import { contradiction } from '../core/boot-truth.ts';
import { type Code, ERRORS, QxError } from '../errors.ts';
import { readVersioned, writeDocument } from '../format/document.ts';
import type { Slot } from '../format/grubenv.ts';
import type { Booted } from '../ports.ts';
import { bootTrouble, currentBoot } from './bootenv.ts';
import { CONFIRMED_PATH, type Host, PATHS } from './host.ts';
import { versionTrouble } from './running-image.ts';
import { loadJournal, loadMemory } from './store.ts';

/**
 * After every boot, what GRUB says is held against what this host believes. Once, before anything is written: what we write
 * ourselves would hide it. It is kept for as long as this boot lasts.
 */

const NOTE_PATH = `${PATHS.run}/boot-truth.json`;
const MAX_NOTE_BYTES = 65_536;

const Note = Type.Object({
  format: Type.Literal(1),
  boot: Type.String({ description: 'in which it was noted' }),
  /** False while /boot is not the one that GRUB reads: nothing could be compared then. */
  is_compared: Type.Boolean(),
  trouble: Type.Union([
    Type.Null(),
    Type.Object({ code: Type.String(), detail: Type.String(), next: Type.Union([Type.String(), Type.Null()]) }),
  ]),
});
type Note = Static<typeof Note>;

/** Called with the lock held. Answers what is wrong, and tells the operator of it when it is new. */
export async function noteTruth(host: Host): Promise<QxError | null> {
  const before = await loadNote(host);
  const now = await bootTrouble(host);
  if (now === null && before?.is_compared === true) return asError(before);
  const trouble = now ?? (await compare(host));
  const isNew = trouble !== null && trouble.message !== before?.trouble?.detail;
  const told = trouble && { code: trouble.code, detail: trouble.message, next: trouble.next ?? null };
  const note: Note = { format: 1, boot: await host.boot.bootId(), is_compared: now === null, trouble: told };
  await host.files.writeAtomic(NOTE_PATH, writeDocument(note), 0o644);
  if (isNew) {
    await host.audit.record({ event: 'boot_contradicted', code: trouble.code, detail: trouble.message });
    host.log.warn('boot_contradicted', { code: trouble.code, detail: trouble.message });
  }
  return trouble;
}

/** What was wrong when it was last looked at in this boot; nothing is looked at. */
export const notedTrouble = async (host: Pick<Host, 'files' | 'boot'>): Promise<QxError | null> =>
  asError(await loadNote(host));

async function compare(host: Host): Promise<QxError | null> {
  const [booted, env, journal] = await Promise.all([
    host.boot.booted(),
    currentBoot(host),
    loadJournal(host).catch(() => null),
  ]);
  const detail = (await isOurOwn(host, booted)) ? null : contradiction(booted, env, journal);
  if (detail !== null) return new QxError('BOOT_MISMATCH', detail, { next: NEXT });
  // In a trial the health gate asks, which can take the slot back.
  return booted.slot === null || booted.trial !== '' ? null : anotherImage(host, booted.slot);
}

/**
 * Confirmed in this boot already, by an agent that keeps no note of it. And the words of a trial without its tries come from an
 * older grub.cfg, or in a folder from whoever plays its machine: a folder may be started twice with them.
 */
async function isOurOwn({ files, disks }: Host, { trial, triesLeft }: Booted): Promise<boolean> {
  if (trial === '') return false;
  const confirmed = await files.read(CONFIRMED_PATH, MAX_NOTE_BYTES);
  if (new TextDecoder().decode(confirmed ?? new Uint8Array()).trim() === trial) return true;
  return triesLeft === null && (await disks.look()) === null;
}

const NEXT = 'look for a second disk or a second /boot: lsblk -o NAME,PARTLABEL,PARTUUID,MOUNTPOINT';

/** Only an image that was noted to say its version can be told from another one. */
async function anotherImage(host: Host, slot: Slot): Promise<QxError | null> {
  const content = (await loadMemory(host).catch(() => null))?.slots[slot];
  if (typeof content?.own_version !== 'string') return null;
  return versionTrouble(host, slot, { target: content.version, previous: content.version });
}

async function loadNote({ files, boot }: Pick<Host, 'files' | 'boot'>): Promise<Note | null> {
  const bytes = await files.read(NOTE_PATH, MAX_NOTE_BYTES).catch(() => null);
  if (bytes === null) return null;
  try {
    const note = readVersioned(bytes, Note, NOTE_PATH, 'it is made again at the next start');
    return note.boot === (await boot.bootId()) ? note : null;
  } catch {
    return null;
  }
}

function asError(note: Note | null): QxError | null {
  if (!note?.trouble) return null;
  const { code, detail, next } = note.trouble;
  return new QxError(code in ERRORS ? (code as Code) : 'BOOT_MISMATCH', detail, next === null ? {} : { next });
}
