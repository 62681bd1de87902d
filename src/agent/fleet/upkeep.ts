import { X509Certificate } from 'node:crypto';
import { fieldsOf } from '../../errors.ts';
import type { Membership } from '../../format/membership.ts';
import type { Clock } from '../../ports.ts';
import { askToEnrol, type Member, renew } from './enrol.ts';
import { closeMembership, forgetEnrolling, isOwn, loadEnrolling, loadMembership, ownOf } from './membership.ts';

/** What a member of a fleet does by itself: asks again until an operator has let it in, and renews its certificate in time. */

const ASK_EVERY_MS = 60_000;
/** Ten days are left when the first try is due. */
const RENEW_EVERY_MS = 15 * 60_000;
const DAY_MS = 86_400_000;

/** To be called again and again; does something when it is due. */
export function fleetUpkeep(host: Member & { readonly clock: Clock }): () => Promise<void> {
  const { files, clock, log } = host;
  const next = { askMs: 0, renewMs: 0 };
  const quietly = async (event: string, work: () => Promise<unknown>): Promise<void> => {
    await work().catch((error: unknown) => {
      log.warn(event, fieldsOf(error));
    });
  };
  return async () => {
    const nowMs = clock.monotonicMs();
    const enrolling = nowMs < next.askMs ? null : await loadEnrolling(files);
    if (enrolling !== null && !(await isOwn(files, enrolling))) {
      await forgetEnrolling(files);
      log.warn('enrolment_forgotten', {
        detail: 'another machine has asked to be let in with this key; it was copied',
      });
    } else if (enrolling !== null) {
      next.askMs = nowMs + ASK_EVERY_MS;
      await quietly('not_enrolled_yet', () => askToEnrol(host, enrolling));
    }
    if (await closeMembership(files)) {
      log.warn('fleet_key_was_readable', {
        detail: 'others could read the key of this host; qx-update enroll --again makes a new one',
      });
    }
    if (nowMs < next.renewMs) return;
    await quietly('certificate_not_renewed', async () => {
      const membership = await loadMembership(files);
      if (membership === null) return;
      const isDue = clock.nowMs() >= Date.parse(membership.renew_after);
      if (!isDue && !(await isEarly(membership, clock))) return;
      // The next one is as early when it is the clock here that is wrong: once a day is enough of that.
      next.renewMs = nowMs + (isDue ? RENEW_EVERY_MS : DAY_MS);
      await renew(host, await ownOf(files, membership));
    });
  };
}

/** The server made it while its clock was ahead, if the one here is right. */
async function isEarly({ certificate }: Membership, clock: Clock): Promise<boolean> {
  const fromMs = new X509Certificate(certificate).validFromDate.getTime();
  return fromMs > clock.nowMs() && (await clock.isSynchronised());
}
