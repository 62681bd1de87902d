import { contactVerdict } from '../core/contact.ts';
import { baselineOf } from './baseline.ts';
import { contactNow } from './contact.ts';
import { type Host, PATHS } from './host.ts';
import { reboot, rebootRefusal } from './reboot.ts';
import { rollback } from './rollback.ts';
import { loadJournal } from './store.ts';

/** After an update: a host that nobody can reach goes back to the image with which they could. */

const ASK_EVERY_MS = 300_000;
/** Somebody answered since this boot. */
const CONTACT = `${PATHS.run}/contact`;
const REASON = 'nobody answered this host for an hour after the update, as somebody did before it';

/** To be called again and again by an agent; does something only in the boot that was a trial, until somebody answered. */
export function contactWatch(host: Host): () => Promise<void> {
  const startedMs = host.clock.monotonicMs();
  const watch = { isOver: false, nextMs: startedMs };
  return async () => {
    const nowMs = host.clock.monotonicMs();
    if (watch.isOver || nowMs < watch.nextMs) return;
    const journal = await loadJournal(host);
    const { trial } = await host.boot.booted();
    if (trial === '' || journal?.id !== trial || (await host.files.info(CONTACT)) !== null) {
      watch.isOver = true;
      return;
    }
    // Its health gate comes first.
    if (journal.phase !== 'complete') return;
    watch.nextMs = nowMs + ASK_EVERY_MS;
    const contact = await contactNow(host);
    const hadContact = (await baselineOf(host, trial))?.contact === true;
    const verdict = contactVerdict(hadContact, contact, nowMs - startedMs);
    if (verdict === 'revert') return revert(host);
    if (verdict === 'wait') return host.log.warn('no_contact', { id: trial, image_may_be_why: contact.imageMayBeWhy });
    watch.isOver = true;
    await host.files.writeAtomic(CONTACT, new TextEncoder().encode(`${contact.answered}\n`), 0o644);
  };
}

/** Only when it may reboot at once: until then somebody may answer, and the image is kept. */
async function revert(host: Host): Promise<void> {
  const refused = await rebootRefusal(host);
  if (refused !== null) return host.log.warn('revert_waits', { reason: refused.detail });
  // The reboot restarts the agent too.
  const result = await rollback(host, REASON, async () => undefined);
  if (result.kind === 'refusal') return host.log.warn('revert_refused', { code: result.code, detail: result.detail });
  await reboot(host, 'contact watch');
}
