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
  for await (const outcome of unheard(files)) {
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
  const who = await coordinatorBy(host, record.by);
  const ended = who === null ? 'over' : await who.end(record, how, detail);
  if (ended === 'kept') await changeRecord(host.files, record, { has_failed: true });
  else await over(turn, record);
  const place = ended === 'kept' ? 'kept' : 'free';
  host.log.info('maintenance_ended', { version: record.target_version, how, place });
}

export async function over({ host, drain, now }: Turn, record: HostMaintenance): Promise<void> {
  if (record.is_drained === true) await drain.undo();
  await forgetRecord(host.files);
  Object.assign(now, { waitsFor: null, hasToldVerifying: false });
}

/** What was not begun is given back: this host holds nothing while it waits for something else. */
export async function takeBack(turn: Turn, why: string): Promise<void> {
  const record = await loadRecord(turn.host.files);
  if (record === null || record.is_rebooting === true || record.has_failed === true) return;
  await end(turn, record, 'took back', why);
}
