import { asQxError } from '../../errors.ts';
import type { Outlook } from '../../format/agent-documents.ts';
import type { Duties, Grant, Offer, Report } from '../../ports/offer.ts';
import { fleetUpkeep } from '../fleet/upkeep.ts';
import { beginReboot, mayApply, mayReboot } from './ask.ts';
import { hostDrain } from './drain.ts';
import { outlook, tick } from './duties.ts';
import { tryNow } from './overdue.ts';
import { loadRecord } from './record.ts';
import { keptReports } from './reports.ts';
import { type Machine, noBecause, type Turn } from './turn.ts';

/**
 * From "an image waits on the slot" to "the host is back": this host asks for its turn, is emptied, reboots inside its grant,
 * and tells how it went. What it says itself comes first, then whoever gives out the places; no answer is a no. Everything that
 * has to survive is in the record and in the reports; a host that was started anew goes on from there.
 */

export interface Maintenance {
  readonly offer: Offer;
  readonly report: Report;
  readonly duties: Duties;
}

export function createMaintenance(host: Machine): Maintenance {
  const turn: Turn = {
    host,
    drain: hostDrain(host),
    now: {
      askedMs: host.clock.monotonicMs(),
      waitsFor: null,
      hasToldVerifying: false,
      failures: 0,
      quietUntilMs: 0,
      held: null,
      untold: 0,
    },
  };
  const inTurn = oneAtATime();
  const keepMembership = fleetUpkeep(host);
  const remembered = async (asked: Promise<Grant>): Promise<Grant> => {
    const grant = await orNo(asked);
    turn.now.waitsFor = grant.granted ? null : grant.reason;
    return grant;
  };
  return {
    offer: {
      mayApply: async (release, needsReboot) =>
        needsReboot ? { granted: true } : inTurn(() => orNo(mayApply(turn, release))),
      mayReboot: (release) => inTurn(() => remembered(mayReboot(turn, release))),
      beginReboot: () => inTurn(() => remembered(beginReboot(turn))),
    },
    report: keptReports(host.files, async () => (await loadRecord(host.files)) !== null),
    duties: {
      tick: () => inTurn(() => keepMembership().then(() => tick(turn))),
      tryNow: () => inTurn(() => tryNow(turn)),
      outlook: () => outlook(turn).catch(unknownOutlook),
      waitsFor: () => turn.now.waitsFor,
      stop: () => turn.drain.stop(),
    },
  };
}

const orNo = (asked: Promise<Grant>): Promise<Grant> => asked.catch(noBecause);

const unknownOutlook = (error: unknown): Outlook => ({
  message: 'Nobody can tell what would become of the VMs here',
  vms: [],
  blocks: [asQxError(error).message],
});

/** The daemon, its API and the health gate ask at any time; two drains side by side would be one too many. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  const last: { done: Promise<unknown> } = { done: Promise.resolve() };
  return (work) => {
    const result = last.done.then(work);
    last.done = result.catch(() => undefined);
    return result;
  };
}
