import { elapsedMs } from '../../core/drain-pause.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Grant } from '../../ports/offer.ts';
import { instant } from '../host.ts';
import { end, takeBack } from './end.ts';
import { endPause, leftMs, lengthenPause, loadPause, pauseInWords } from './pause.ts';
import { changeRecord, hasRebooted, loadRecord, unmarkReboot } from './record.ts';
import { no, type Turn } from './turn.ts';

/**
 * A host that cannot become empty, or that does not go down, gives its place to others. Counted from when it got the place: each
 * try of the programs in drain.d is a part of that time, and so is the wait for one that hangs.
 */

/** Longer than a reboot may take before it is forced (`reboot_s`, 600). */
const DOWN_WITHIN_MS = 30 * 60_000;

/** Null: nothing stands against going on. */
export async function refusedByDrain(turn: Turn): Promise<Grant | null> {
  const { host } = turn;
  const pause = await loadPause(host);
  const waitMs = pause === null ? 0 : leftMs(pause, host.clock.nowMs());
  const record = await loadRecord(host.files);
  if (pause === null || waitMs === 0) return record && giveUpOverdue(turn, record);
  // Whoever has to hear it was not there, or the power went between the two. Components need no place.
  if (record !== null && record.update_type !== 'component') await takeBack(turn, pause.reason);
  return no(pauseInWords(pause), waitMs);
}

/** Null: it has time left, or needs none. */
async function giveUpOverdue(turn: Turn, record: HostMaintenance): Promise<Grant | null> {
  const { config, files } = turn.host;
  const { since, rebooting_since } = record;
  if (record.has_failed === true) return null;
  if (record.is_rebooting === true) {
    if (rebooting_since === undefined || (await hasRebooted(files, record))) return null;
    if (heldMs(turn, rebooting_since) < DOWN_WITHIN_MS) return null;
    const why = `the reboot was begun at ${rebooting_since}, and this host is still up`;
    return giveUp(turn, await unmarkReboot(files, record), why);
  }
  if (since === undefined || heldMs(turn, since) < config.drainTimeoutMs) return null;
  const within = `within the ${Math.round(config.drainTimeoutMs / 1000)} s of drain_timeout`;
  return giveUp(turn, record, `this host did not become empty ${within}: ${await turn.drain.inTheWay()}`);
}

/** VMs may come back, the place is for others, and the next try waits. That is kept first: a crash must not bring it on. */
export async function giveUp(turn: Turn, record: HostMaintenance, why: string): Promise<Grant> {
  const { host } = turn;
  const pause = await lengthenPause(host, why);
  const { target_version: version } = record;
  host.log.warn('drain_given_up', { version, failures: pause.failures, pause_ms: pause.pause_ms, detail: why });
  const fields = { version, reason: why, pause_ms: pause.pause_ms };
  await host.audit.record({ event: 'drain_given_up', fields });
  await end(turn, record, 'took back', why);
  return no(pauseInWords(pause), pause.pause_ms);
}

/** A person wants it now, whatever came of it before. */
export async function tryNow({ host }: Turn): Promise<void> {
  await endPause(host);
  const record = await loadRecord(host.files);
  if (record?.since !== undefined) await changeRecord(host.files, record, { since: instant(host.clock) });
}

/** By the clock that never steps as long as this agent runs; one that was started anew has only the other. */
function heldMs({ host: { clock }, now }: Turn, since: string): number {
  if (now.held?.since !== since) {
    now.held = { since, fromMs: clock.monotonicMs() - elapsedMs(since, clock.nowMs()) };
  }
  return clock.monotonicMs() - now.held.fromMs;
}
