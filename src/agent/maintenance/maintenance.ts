import { isSettled } from '../../core/update.ts';
import { asQxError } from '../../errors.ts';
import type { Outlook } from '../../format/agent-documents.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Journal } from '../../format/journal.ts';
import type { Duties, Grant, Offer, ReleaseRef, Report } from '../../ports/offer.ts';
import { readOsVersion } from '../facts.ts';
import { isOver } from '../fleet/client.ts';
import type { Member } from '../fleet/enrol.ts';
import { loadMembership } from '../fleet/membership.ts';
import { fleetUpkeep } from '../fleet/upkeep.ts';
import type { Host } from '../host.ts';
import { loadJournal } from '../store.ts';
import { type Coordinator, drainInWords, nobody, type Wish } from './coordinator.ts';
import { type DrainState, hostDrain } from './drain.ts';
import { fleet } from './fleet.ts';
import { fleetlock } from './fleetlock.ts';
import { refusedHere } from './local.ts';
import { changeRecord, forgetRecord, hasRebooted, loadRecord, markReboot, unmarkReboot, withoutEnd } from './record.ts';
import { type KeptOutcome, keptReports, unheard } from './reports.ts';

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

type Machine = Pick<Host, 'config' | 'hooks' | 'clock'> & Member;

/** Whoever has not asked for so long does not want it any more: a window has closed, updates are on hold. */
const FORGOTTEN_AFTER_MS = 30 * 60_000;

export function createMaintenance(host: Machine): Maintenance {
  const { files, clock, log } = host;
  const drain = hostDrain(host);
  const now = { askedMs: clock.monotonicMs(), waitsFor: null as string | null, hasToldVerifying: false };
  const inTurn = oneAtATime();
  const keepMembership = fleetUpkeep(host);

  const mayReboot = async (release: ReleaseRef | null): Promise<Grant> => {
    const here = await refusedHere(host);
    if (here !== null) {
      await takeBack('its window is closed, or somebody inhibits it');
      return here;
    }
    now.askedMs = clock.monotonicMs();
    if (!(await tellOutcomes())) return no('nobody has heard yet how the last update ended');
    const version = release?.version ?? (await readOsVersion(files));
    const wish: Wish = { version, updateType: release === null ? 'reboot' : 'full' };
    const who = await coordinatorOf(host);
    const record = await askedWith(who, wish);
    const standing = await who.ask(wish);
    if (standing.kind === 'wait') return no(standing.reason, standing.retryAfterMs);
    // What became of an earlier one is over with this.
    const known = await loadRecord(files);
    if (known !== null) await changeRecord(files, withoutEnd(known));
    return standing.kind === 'drain' ? empty(who, record, standing.must) : { granted: true };
  };

  /** What this host remembers of a wish. Written before it is asked for, or a crash would leave a place that nobody gives back. */
  const askedWith = async (who: Coordinator, { version, updateType }: Wish): Promise<HostMaintenance> => {
    const known = await loadRecord(files);
    // Somebody else gives out the places now.
    if (known !== null && known.by !== who.by) await over(known);
    const fresh = { format: 1 as const, by: who.by, update_type: updateType, target_version: version };
    if (who.by === 'nobody') return known?.by === who.by ? known : fresh;
    return changeRecord(files, known?.by === who.by ? known : fresh, {
      update_type: updateType,
      target_version: version,
    });
  };

  /** Only what `list` no longer shows is gone. */
  const empty = async (who: Coordinator, record: HostMaintenance, must: boolean): Promise<Grant> => {
    const can = await drain.can();
    if (can === 'nobody can' && must) return no(NOBODY_EMPTIES);
    const state = can === 'programs' ? await goOnDraining((await loadRecord(files)) ?? record) : EMPTY;
    const standing = await who.drained(state);
    if (standing.kind === 'go') return { granted: true };
    return standing.kind === 'wait' ? no(standing.reason, standing.retryAfterMs) : no(drainInWords(state));
  };

  const goOnDraining = async (record: HostMaintenance): Promise<DrainState> => {
    // Before it begins, or nobody would tell the programs that it is over.
    const drained = await changeRecord(files, record, { is_drained: true });
    const state = await drain.goOn();
    const totalVms = Math.max(state.totalVms, record.total_vms ?? 0);
    await changeRecord(files, drained, { total_vms: totalVms });
    return { ...state, totalVms };
  };

  const beginReboot = async (): Promise<Grant> => {
    const here = await refusedHere(host);
    if (here !== null) return here;
    const who = await coordinatorOf(host);
    const record = await loadRecord(files);
    if (record === null) return who.by === 'nobody' ? { granted: true } : no('it has to be asked for first');
    if (record.by !== who.by) return no('somebody else gives out the places now; it has to be asked for anew');
    const back = record.is_drained === true ? await drain.list() : [];
    if (back.length > 0) return no(`${back.length} VMs are on this host again`);
    // Before: a power cut after the answer is a reboot like any other.
    const marked = await markReboot(files, record);
    const grant = await who.begin(record).catch((error: unknown) => no(asQxError(error).message));
    if (!grant.granted) await unmarkReboot(files, marked);
    return grant;
  };

  /** True: there is nothing that somebody still has to hear. */
  const tellOutcomes = async (): Promise<boolean> => {
    for await (const outcome of unheard(files)) {
      const record = await loadRecord(files);
      if (record?.target_version === outcome.version && record.update_type !== 'reboot') {
        const heard = await end(record, howOf(outcome, record), wordsOf(outcome)).catch((error: unknown) => {
          log.warn('report_waits', { detail: asQxError(error).message });
          return false;
        });
        if (!heard) return false;
      }
      await outcome.heard();
    }
    return true;
  };

  const end = async (record: HostMaintenance, how: How, detail: string): Promise<boolean> => {
    const who = await coordinatorOf(host);
    const ended = who.by !== record.by ? 'over' : await who.end(record, how, detail).catch(overWhenUnknown);
    if (ended === 'kept') await changeRecord(files, record, { has_failed: true });
    else await over(record);
    log.info('maintenance_ended', { version: record.target_version, how, place: ended === 'kept' ? 'kept' : 'free' });
    return true;
  };

  const over = async (record: HostMaintenance): Promise<void> => {
    if (record.is_drained === true) await drain.undo();
    await forgetRecord(files);
    Object.assign(now, { waitsFor: null, hasToldVerifying: false });
  };

  /** What was not begun is given back: this host holds nothing while it waits for something else. */
  const takeBack = async (why: string): Promise<void> => {
    const record = await loadRecord(files);
    if (record === null || record.is_rebooting === true || record.has_failed === true) return;
    await end(record, 'took back', why);
  };

  const tick = async (): Promise<void> => {
    await keepMembership();
    if (!(await tellOutcomes())) return;
    const record = await loadRecord(files);
    if (record === null) return;
    const journal = await loadJournal(host);
    const who = await coordinatorOf(host);
    if (record.has_failed === true) {
      if (who.by !== record.by || (await who.isForgiven(record, journal?.dismissed === true))) await over(record);
    } else if (await hasRebooted(files, record)) {
      await afterReboot(who, record, journal);
    } else if (!isWanted(record, journal)) {
      await takeBack('it is not wanted any more');
    }
  };

  const afterReboot = async (who: Coordinator, record: HostMaintenance, journal: Journal | null): Promise<void> => {
    if (record.update_type === 'reboot') return void (await end(record, 'complete', ''));
    const isThis = journal?.target_version === record.target_version;
    // Its report was lost, with a disk that was full for example: the journal knows too.
    if (!isThis || isSettled(journal.phase)) {
      const how = isThis && journal.phase === 'complete' ? 'complete' : 'failed';
      return void (await end(record, how, journal?.error?.detail ?? 'the host came up without this update'));
    }
    if (now.hasToldVerifying || who.by !== record.by) return;
    await who.verifying(record);
    now.hasToldVerifying = true;
  };

  const isWanted = (record: HostMaintenance, journal: Journal | null): boolean =>
    clock.monotonicMs() - now.askedMs < FORGOTTEN_AFTER_MS ||
    record.is_rebooting === true ||
    (record.update_type === 'component' && journal !== null && !isSettled(journal.phase));

  const remembered = async (asked: Promise<Grant>): Promise<Grant> => {
    const grant = await asked.catch((error: unknown) => no(asQxError(error).message));
    now.waitsFor = grant.granted ? null : grant.reason;
    return grant;
  };

  const outlook = async (): Promise<Outlook | null> => {
    const planned = await (await coordinatorOf(host)).plan();
    if (planned !== null || (await drain.can()) !== 'programs') return planned;
    const vms = (await drain.list()).map((vm) => ({ vm }));
    return { message: 'The programs in drain.d empty this host', vms, blocks: [] };
  };

  const mayApply = async ({ version }: ReleaseRef): Promise<Grant> => {
    const who = await coordinatorOf(host);
    if (who.by !== 'fleet') return { granted: true };
    now.askedMs = clock.monotonicMs();
    if (!(await tellOutcomes())) return no('the fleet has not heard yet how the last update ended');
    const wish: Wish = { version, updateType: 'component' };
    await askedWith(who, wish);
    const standing = await who.ask(wish);
    return standing.kind === 'go' ? { granted: true } : no(standing.kind === 'wait' ? standing.reason : NOBODY_EMPTIES);
  };

  return {
    offer: {
      mayApply: (release, needsReboot) =>
        needsReboot
          ? Promise.resolve({ granted: true })
          : inTurn(() => mayApply(release).catch((error: unknown) => no(asQxError(error).message))),
      mayReboot: (release) => inTurn(() => remembered(mayReboot(release))),
      beginReboot: () => inTurn(() => remembered(beginReboot())),
    },
    report: keptReports(files, async () => (await loadRecord(files)) !== null),
    duties: {
      tick: () => inTurn(tick),
      outlook: () =>
        outlook().catch((error: unknown) => ({
          message: 'Nobody can tell what would become of the VMs here',
          vms: [],
          blocks: [asQxError(error).message],
        })),
      waitsFor: () => now.waitsFor,
      stop: () => drain.stop(),
    },
  };
}

type How = Parameters<Coordinator['end']>[1];

const NOBODY_EMPTIES =
  'nobody empties this host: put a program into drain.d, or set updates.carries_vms to false in node.yaml';

const EMPTY = { totalVms: 0, remaining: [], failure: null, isEmpty: true };

const no = (reason: string, retryAfterMs?: number): Grant => ({
  granted: false,
  reason,
  ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
});

async function coordinatorOf(host: Machine): Promise<Coordinator> {
  const membership = await loadMembership(host.files);
  if (membership !== null) return fleet(host, membership);
  return host.config.fleetlock === null ? nobody : fleetlock(host, host.config.fleetlock);
}

/** What was not begun has cost nobody anything. */
const howOf = ({ result }: KeptOutcome, { is_rebooting, update_type }: HostMaintenance): How => {
  if (result === 'complete') return 'complete';
  return is_rebooting === true || update_type === 'component' ? 'failed' : 'took back';
};

const wordsOf = ({ result, code, detail }: KeptOutcome): string =>
  [result.replace('_', ' '), code, detail]
    .filter((part) => part !== undefined)
    .join(': ')
    .slice(0, 2000);

const overWhenUnknown = (error: unknown): 'over' => {
  if (isOver(error)) return 'over';
  throw error;
};

/** The daemon, its API and the health gate ask at any time; two drains side by side would be one too many. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  const last: { done: Promise<unknown> } = { done: Promise.resolve() };
  return (work) => {
    const result = last.done.then(work);
    last.done = result.catch(() => undefined);
    return result;
  };
}
