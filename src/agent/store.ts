import { nextPhase, type UpdateEvent } from '../core/update.ts';
import { EMPTY_MEMORY, type Journal, type Memory, readJournal, readMemory, writeDocument } from '../format/journal.ts';
import { type Host, instant, PATHS } from './host.ts';

/** The two documents that outlive a process and a boot. Each is written as a whole, atomically, by whoever holds the lock. */

type Writer = Pick<Host, 'files' | 'clock'>;

const MAX_BYTES = 1 << 20;

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadJournal({ files }: Pick<Host, 'files'>): Promise<Journal | null> {
  const bytes = await files.read(PATHS.journal, MAX_BYTES);
  return bytes === null ? null : readJournal(bytes);
}

export async function saveJournal({ files, clock }: Writer, journal: Journal): Promise<Journal> {
  const saved = { ...journal, updated_at: instant(clock) };
  await files.writeAtomic(PATHS.journal, writeDocument(saved), 0o600);
  return saved;
}

/** Saves the phase that `event` leads to, with what else is known by then. @throws QxError ILLEGAL_TRANSITION */
export const advance = (
  host: Writer,
  journal: Journal,
  event: UpdateEvent,
  known: Partial<Journal> = {},
): Promise<Journal> => saveJournal(host, { ...journal, ...known, phase: nextPhase(journal.phase, event) });

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadMemory({ files }: Pick<Host, 'files'>): Promise<Memory> {
  const bytes = await files.read(PATHS.memory, MAX_BYTES);
  return bytes === null ? EMPTY_MEMORY : readMemory(bytes);
}

export const saveMemory = ({ files }: Pick<Host, 'files'>, memory: Memory): Promise<void> =>
  files.writeAtomic(PATHS.memory, writeDocument(memory), 0o600);
