import { type RetryPolicy, retryDelayMs } from '../../core/retry.ts';
import { isSettled } from '../../core/update.ts';
import type { Outlook } from '../../format/agent-documents.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Journal } from '../../format/journal.ts';
import { loadJournal } from '../store.ts';
import type { Coordinator } from './coordinator.ts';
import { end, over, takeBack, tellOutcomes } from './end.ts';
import { refusedByDrain } from './overdue.ts';
import { hasRebooted, loadRecord } from './record.ts';
import { coordinatorBy, coordinatorOf, type Turn } from './turn.ts';

/** What this host does about its maintenance by itself, whether or not somebody asks for a reboot at this moment. */

/** Whoever has not asked for so long does not want it any more: a window has closed, updates are on hold. */
const FORGOTTEN_AFTER_MS = 30 * 60_000;

/** A server that cannot be reached has a whole fleet to answer when it is back. */
const PACE: RetryPolicy = {
  maxAttempts: Number.POSITIVE_INFINITY,
  firstDelayMs: 15_000,
  maxDelayMs: 600_000,
  maxRetryAfterMs: 0,
};

/** To be called again and again; after a failure it does nothing for a while. @throws QxError what failed */
export async function tick(turn: Turn): Promise<void> {
  const { host, now } = turn;
  if (host.clock.monotonicMs() < now.quietUntilMs) return;
  now.failures += 1;
  now.quietUntilMs = host.clock.monotonicMs() + (retryDelayMs(PACE, now.failures, host.random.unit()) ?? 0);
  if (!(await tellOutcomes(turn))) return;
  await lookAfterRecord(turn);
  Object.assign(now, { failures: 0, quietUntilMs: 0 });
}

async function lookAfterRecord(turn: Turn): Promise<void> {
  const { host } = turn;
  const record = await loadRecord(host.files);
  if (record === null) return;
  const journal = await loadJournal(host);
  const who = await coordinatorBy(host, record);
  if (record.has_failed === true) {
    if (who === null || (await who.isForgiven(record, journal?.dismissed === true))) await over(turn, record);
  } else if (await hasRebooted(host.files, record)) {
    await afterReboot(turn, who, record, journal);
  } else if ((await refusedByDrain(turn)) === null && !isWanted(turn, record, journal)) {
    await takeBack(turn, 'it is not wanted any more');
  }
}

async function afterReboot(turn: Turn, who: Coordinator | null, record: HostMaintenance, journal: Journal | null) {
  if (record.update_type === 'reboot') return end(turn, record, 'complete', '');
  const isThis = journal?.target_version === record.target_version;
  // Its report was lost, with a disk that was full for example: the journal knows too.
  if (!isThis || isSettled(journal.phase)) {
    const how = isThis && journal.phase === 'complete' ? 'complete' : 'failed';
    return end(turn, record, how, journal?.error?.detail ?? 'the host came up without this update');
  }
  if (turn.now.hasToldVerifying || who === null) return;
  await who.verifying(record);
  turn.now.hasToldVerifying = true;
}

const isWanted = ({ host, now }: Turn, record: HostMaintenance, journal: Journal | null): boolean =>
  host.clock.monotonicMs() - now.askedMs < FORGOTTEN_AFTER_MS ||
  record.is_rebooting === true ||
  (record.update_type === 'component' && journal !== null && !isSettled(journal.phase));

/** What would become of the VMs here. */
export async function outlook({ host, drain }: Turn): Promise<Outlook | null> {
  const planned = await (await coordinatorOf(host)).plan();
  if (planned !== null || (await drain.can()) !== 'programs') return planned;
  const vms = (await drain.list()).map((vm) => ({ vm }));
  return { message: 'The programs in drain.d empty this host', vms, blocks: [] };
}
