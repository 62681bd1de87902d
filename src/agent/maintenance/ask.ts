import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Grant, ReleaseRef } from '../../ports/offer.ts';
import { readOsVersion } from '../facts.ts';
import { instant } from '../host.ts';
import { type Coordinator, drainInWords, type Wish } from './coordinator.ts';
import type { DrainState } from './drain.ts';
import { endElsewhere, takeBack, tellOutcomes } from './end.ts';
import { refusedHere } from './local.ts';
import { giveUp, refusedByDrain } from './overdue.ts';
import { forgetPause } from './pause.ts';
import { asGranted, changeRecord, forgetSince, loadRecord, markReboot, unmarkReboot } from './record.ts';
import { coordinatorOf, no, noBecause, type Turn } from './turn.ts';

/** Asking for the turn of this host, again and again, until it is empty and may go; and then once more, right before it does. */

export async function mayReboot(turn: Turn, release: ReleaseRef | null): Promise<Grant> {
  const { host, now } = turn;
  const here = await refusedHere(host);
  if (here !== null) {
    await takeBack(turn, 'its window is closed, or somebody inhibits it');
    return here;
  }
  now.askedMs = host.clock.monotonicMs();
  if (!(await tellOutcomes(turn))) return no(UNHEARD);
  const stuck = await refusedByDrain(turn);
  if (stuck !== null) return stuck;
  const version = release?.version ?? (await readOsVersion(host.files));
  const canEmptyItself = (await turn.drain.can()) !== 'nobody can';
  const wish: Wish = { version, updateType: release === null ? 'reboot' : 'full', canEmptyItself };
  const who = await coordinatorOf(host);
  const record = await askedWith(turn, who, wish);
  const standing = await who.ask(wish);
  if (standing.kind === 'wait') {
    // Called off there: this host is not to become empty any more.
    if (who.by === 'fleet') await forgetSince(host.files);
    return no(standing.reason, standing.retryAfterMs);
  }
  if (standing.kind === 'given up') return giveUp(turn, record, standing.reason);
  const known = await loadRecord(host.files);
  if (known !== null) await changeRecord(host.files, await asGranted(host.files, known));
  return standing.kind === 'drain' ? empty(turn, who, record) : { granted: true };
}

/** Components: nobody has to go, and nothing waits. Hosts of no fleet need not ask. */
export async function mayApply(turn: Turn, { version }: ReleaseRef): Promise<Grant> {
  const who = await coordinatorOf(turn.host);
  if (who.by !== 'fleet') return { granted: true };
  turn.now.askedMs = turn.host.clock.monotonicMs();
  if (!(await tellOutcomes(turn))) return no(UNHEARD);
  const wish: Wish = { version, updateType: 'component', canEmptyItself: false };
  await askedWith(turn, who, wish);
  const standing = await who.ask(wish);
  return 'reason' in standing ? no(standing.reason) : { granted: true };
}

const UNHEARD = 'nobody has heard yet how the last update ended';

/** What this host remembers of a wish. Written before it is asked for, or a crash would leave a place that nobody gives back. */
async function askedWith(turn: Turn, who: Coordinator, { version, updateType }: Wish): Promise<HostMaintenance> {
  const { files, config } = turn.host;
  const lock = who.by === 'fleetlock' && config.fleetlock !== null ? { fleetlock: config.fleetlock } : {};
  const known = await loadRecord(files);
  const isSame = known !== null && known.by === who.by && isSameLock(known, lock);
  // Somebody else gives out the places now; whoever did before gets his back.
  if (known !== null && !isSame) await endElsewhere(turn, known, 'the host asks somebody else now');
  const fresh = { format: 1 as const, by: who.by, update_type: updateType, target_version: version };
  if (who.by === 'nobody') return isSame ? known : fresh;
  const record = isSame ? known : { ...fresh, ...(await who.atFirst?.()) };
  return changeRecord(files, record, { update_type: updateType, target_version: version, ...lock });
}

const isSameLock = ({ fleetlock: before }: HostMaintenance, { fleetlock: now }: Pick<HostMaintenance, 'fleetlock'>) =>
  before === undefined || now === undefined || (before.url === now.url && before.group === now.group);

/** Only what `list` no longer shows is gone. */
async function empty(turn: Turn, who: Coordinator, record: HostMaintenance): Promise<Grant> {
  await noteSince(turn, record);
  const state = (await turn.drain.can()) === 'programs' ? await goOnDraining(turn, record) : EMPTY;
  const standing = await who.drained(state);
  if (standing.kind === 'go') return { granted: true };
  if (standing.kind === 'given up') return giveUp(turn, record, standing.reason);
  return standing.kind === 'wait' ? no(standing.reason, standing.retryAfterMs) : no(drainInWords(state));
}

/** Before anything is done about it: a program that hangs has its share of the time. */
async function noteSince({ host: { files, clock } }: Turn, fresh: HostMaintenance): Promise<void> {
  const record = (await loadRecord(files)) ?? fresh;
  // One that was noted by a clock that was ahead is noted anew, or it would begin again with each start of the agent.
  if (record.since !== undefined && Date.parse(record.since) <= clock.nowMs()) return;
  await changeRecord(files, record, { since: instant(clock) });
}

const EMPTY: DrainState = { totalVms: 0, remaining: [], failure: null, isEmpty: true };

async function goOnDraining({ host: { files }, drain }: Turn, fresh: HostMaintenance): Promise<DrainState> {
  const record = (await loadRecord(files)) ?? fresh;
  // Before it begins, or nobody would tell the programs that it is over.
  const drained = await changeRecord(files, record, { is_drained: true });
  const state = await drain.goOn();
  const totalVms = Math.max(state.totalVms, record.total_vms ?? 0);
  await changeRecord(files, drained, { total_vms: totalVms });
  return { ...state, totalVms };
}

export async function beginReboot({ host, drain }: Turn): Promise<Grant> {
  const { files } = host;
  const here = await refusedHere(host);
  if (here !== null) return here;
  const who = await coordinatorOf(host);
  const record = await loadRecord(files);
  if (record === null) return who.by === 'nobody' ? { granted: true } : no('it has to be asked for first');
  if (record.by !== who.by) return no('somebody else gives out the places now; it has to be asked for anew');
  const back = record.is_drained === true ? await drain.list() : [];
  if (back.length > 0) return no(`${back.length} VMs are on this host again`);
  // Before: a power cut after the answer is a reboot like any other.
  const marked = await markReboot(files, record, instant(host.clock));
  const grant = await who.begin(record).catch(noBecause);
  if (!grant.granted) await unmarkReboot(files, marked);
  else await forgetPause(files);
  return grant;
}
