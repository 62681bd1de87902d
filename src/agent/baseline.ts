import { isCode } from '../errors.ts';
import { BASELINE_PATH, type Baseline, readBaseline } from '../format/baseline.ts';
import { writeDocument } from '../format/document.ts';
import { contactNow } from './contact.ts';
import { type Host, instant } from './host.ts';
import { vitals } from './vitals.ts';

/** What held before an update. A new image is turned back for what it broke, not for what was broken before. */

const MAX_BYTES = 1 << 20;

export async function takeBaseline(host: Host, id: string, signal?: AbortSignal): Promise<void> {
  const { facts, hooks } = await vitals(host, signal);
  for (const { name, ok, detail } of hooks) {
    if (!ok) host.log.warn('unwell_before_update', { id, name, detail });
  }
  const contact = (await contactNow(host)).answered !== null;
  const baseline: Baseline = { format: 1, id, taken_at: instant(host.clock), facts: [...facts], contact };
  await host.files.writeAtomic(BASELINE_PATH, writeDocument(baseline), 0o600);
}

/** Null when it was taken for another update, or cannot be read: nothing is compared then. */
export async function baselineOf({ files, log }: Host, id: string): Promise<Baseline | null> {
  try {
    const bytes = await files.read(BASELINE_PATH, MAX_BYTES);
    const baseline = bytes === null ? null : readBaseline(bytes);
    return baseline?.id === id ? baseline : null;
  } catch (error) {
    if (!isCode(error, 'STATE_INVALID') && !isCode(error, 'STATE_TOO_NEW')) throw error;
    log.warn('baseline_unreadable', { id, code: error.code, detail: error.message });
    return null;
  }
}
