import { nextPhase, type UpdateEvent } from '../core/update.ts';
import { isCode } from '../errors.ts';
import { writeDocument } from '../format/document.ts';
import { EMPTY_MEMORY, type Journal, type Memory, readJournal, readMemory } from '../format/journal.ts';
import { type Host, instant, PATHS } from './host.ts';

/** The two documents that outlive a process and a boot. Each is written as a whole, atomically, by whoever holds the lock. */

type Writer = Pick<Host, 'files' | 'clock'>;

const MAX_BYTES = 1 << 20;

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadJournal({ files }: Pick<Host, 'files'>): Promise<Journal | null> {
  const bytes = await files.read(PATHS.journal, MAX_BYTES);
  return bytes === null ? null : readJournal(bytes);
}

/**
 * For whoever holds the lock. A journal that cannot be read (a damaged disk, another program's file of that name) says nothing
 * and blocks nothing: the environment still says what boots. It is kept aside for a person to look at.
 * @throws QxError STATE_TOO_NEW, since a newer agent can read it
 */
export async function openJournal(host: Pick<Host, 'files' | 'log'>): Promise<Journal | null> {
  try {
    return await loadJournal(host);
  } catch (error) {
    if (!isCode(error, 'STATE_INVALID')) throw error;
    const keptAs = `${PATHS.journal}.bad`;
    host.log.warn('journal_set_aside', { code: error.code, detail: error.message, kept_as: keptAs });
    await host.files.rename(PATHS.journal, keptAs);
    return null;
  }
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
