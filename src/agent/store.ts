import { nextPhase, type UpdateEvent } from '../core/update.ts';
import { EMPTY_MEMORY, type Journal, type Memory, readJournal, readMemory, writeDocument } from '../format/journal.ts';
import type { Clock, Files } from '../ports.ts';
import { instant, PATHS } from './host.ts';

/** The two documents that outlive a process and a boot. Each is written as a whole, atomically, by whoever holds the lock. */

type Disk = { readonly files: Files; readonly clock: Clock };

const MAX_BYTES = 1 << 20;

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadJournal({ files }: Disk): Promise<Journal | null> {
  const bytes = await files.read(PATHS.journal, MAX_BYTES);
  return bytes === null ? null : readJournal(bytes);
}

export async function saveJournal({ files, clock }: Disk, journal: Journal): Promise<Journal> {
  const saved = { ...journal, updated_at: instant(clock) };
  await files.writeAtomic(PATHS.journal, writeDocument(saved), 0o600);
  return saved;
}

/** Saves the phase that `event` leads to, with what else is known by then. @throws QxError ILLEGAL_TRANSITION */
export const advance = (
  disk: Disk,
  journal: Journal,
  event: UpdateEvent,
  known: Partial<Journal> = {},
): Promise<Journal> => saveJournal(disk, { ...journal, ...known, phase: nextPhase(journal.phase, event) });

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadMemory({ files }: Disk): Promise<Memory> {
  const bytes = await files.read(PATHS.memory, MAX_BYTES);
  return bytes === null ? EMPTY_MEMORY : readMemory(bytes);
}

export const saveMemory = ({ files }: Disk, memory: Memory): Promise<void> =>
  files.writeAtomic(PATHS.memory, writeDocument(memory), 0o600);
