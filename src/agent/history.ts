import { writeDocument } from '../format/document.ts';
import { EMPTY_HISTORY, type History, readHistory, withEntry } from '../format/history.ts';
import type { Journal } from '../format/journal.ts';
import type { Outcome } from '../ports/offer.ts';
import { type Host, PATHS } from './host.ts';

/** How the updates of this host ended, for its operator and for its metrics. */

const MAX_BYTES = 1 << 20;

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadHistory({ files }: Pick<Host, 'files'>): Promise<History> {
  const bytes = await files.read(PATHS.history, MAX_BYTES);
  return bytes === null ? EMPTY_HISTORY : readHistory(bytes);
}

/** With the update lock held. */
export async function addToHistory(host: Pick<Host, 'files'>, journal: Journal, outcome: Outcome): Promise<void> {
  const { id, product, channel, previous_version, started_at, error, timings } = journal;
  const history = withEntry(await loadHistory(host), {
    id,
    product,
    channel,
    version: journal.target_version,
    previous_version,
    result: outcome.result,
    started_at,
    finished_at: outcome.at,
    ...(error ?? {}),
    ...(timings === undefined ? {} : { timings }),
  });
  await host.files.writeAtomic(PATHS.history, writeDocument(history), 0o600);
}
