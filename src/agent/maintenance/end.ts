import { asQxError } from '../../errors.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Coordinator } from './coordinator.ts';
import { changeRecord, forgetRecord, loadRecord } from './record.ts';
import { type KeptOutcome, unheard } from './reports.ts';
import { coordinatorBy, type Turn } from './turn.ts';

/** How a maintenance of this host comes to its end: somebody has heard how it went, and VMs may come back. */

type How = Parameters<Coordinator['end']>[1];

/** True: there is nothing that somebody still has to hear. */
export async function tellOutcomes(turn: Turn): Promise<boolean> {
  const { files, log } = turn.host;
  for await (const outcome of unheard({ files, log })) {
    const record = await loadRecord(files);
    if (record?.target_version === outcome.version && record.update_type !== 'reboot') {
      try {
        await end(turn, record, howOf(outcome, record), wordsOf(outcome));
      } catch (error) {
        log.warn('report_waits', { detail: asQxError(error).message });
        return false;
      }
    }
    await outcome.heard();
  }
  return true;
}

/** What was not begun has cost nobody anything. */
function howOf({ result }: KeptOutcome, { is_rebooting, update_type }: HostMaintenance): How {
  if (result === 'complete') return 'complete';
  return is_rebooting === true || update_type === 'component' ? 'failed' : 'took back';
}

const MAX_WORDS = 2000;

const wordsOf = ({ result, code, detail }: KeptOutcome): string =>
  [result.replace('_', ' '), code, detail]
    .filter((part) => part !== undefined)
    .join(': ')
    .slice(0, MAX_WORDS);

/** @throws QxError when nobody has heard it: the record stays */
export async function end(turn: Turn, record: HostMaintenance, how: How, detail: string): Promise<void> {
  const { host } = turn;
  const who = await coordinatorBy(host, record);
  const ended = who === null ? 'over' : await who.end(record, how, detail);
  if (ended === 'kept') await changeRecord(host.files, record, { has_failed: true });
  else await over(turn, record);
  const place = ended === 'kept' ? 'kept' : 'free';
  host.log.info('maintenance_ended', { version: record.target_version, how, place });
}

/** So often in a row: a network that is away comes back, a server that was taken down does not. */
const TOLD_OFTEN_ENOUGH = 20;

/** Of a maintenance by somebody whom this host does not ask any more. @throws QxError for a while, when he does not answer */
export async function endElsewhere(turn: Turn, record: HostMaintenance, detail: string): Promise<void> {
  const { host, now } = turn;
  try {
    await end(turn, record, 'took back', detail);
    now.untold = 0;
  } catch (error) {
    now.untold += 1;
    if (now.untold < TOLD_OFTEN_ENOUGH) throw error;
    const { url, group } = record.fleetlock ?? { url: null, group: null };
    const fields = { by: record.by, url, group, detail: asQxError(error).message };
    host.log.warn('place_not_given_back', fields);
    await host.audit.record({ event: 'place_not_given_back', fields });
    await over(turn, record);
  }
}

export async function over({ host, drain, now }: Turn, record: HostMaintenance): Promise<void> {
  if (record.is_drained === true) await drain.undo();
  await forgetRecord(host.files);
  Object.assign(now, { waitsFor: null, hasToldVerifying: false, held: null });
}

/** What was not begun is given back: this host holds nothing while it waits for something else. */
export async function takeBack(turn: Turn, why: string): Promise<void> {
  const record = await loadRecord(turn.host.files);
  if (record === null || record.is_rebooting === true || record.has_failed === true) return;
  await end(turn, record, 'took back', why);
}
