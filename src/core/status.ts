import type { UpdateStatus } from '../format/agent-documents.ts';
import type { Journal } from '../format/journal.ts';
import type { BootState, Slot } from './boot.ts';
import { isSettled } from './update.ts';

/** What the agent says about itself, from what it is doing, what it did last, and what waits for a reboot. */

export type Activity =
  | { readonly kind: 'idle' }
  | { readonly kind: 'checking' }
  | {
      readonly kind: 'downloading' | 'applying';
      readonly name: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
    };

/** What the last finished check or update came to; null since the agent started when neither has run. */
export type LastResult =
  | null
  | { readonly kind: 'up_to_date' }
  | { readonly kind: 'available' | 'downloaded'; readonly version: string }
  | { readonly kind: 'complete'; readonly version: string }
  /** Somebody wanted it so. */
  | { readonly kind: 'stopped'; readonly message: string }
  | { readonly kind: 'error'; readonly message: string };

/** The slot that runs, and the one that GRUB takes next; null when nobody knows. */
interface Boots {
  readonly running: Slot | null;
  readonly next: Slot | null;
}

/** `trouble`: what GRUB says of this boot is not what this host believes; nothing that it says of its slots holds then. */
export function updateStatus(
  activity: Activity,
  last: LastResult,
  journal: Journal | null,
  boot: Boots,
  trouble: string | null = null,
): UpdateStatus {
  if (activity.kind === 'downloading' || activity.kind === 'applying') {
    return {
      status: activity.kind,
      message: activity.name,
      progress: percent(activity.doneBytes, activity.totalBytes),
    };
  }
  if (trouble !== null) return { status: 'error', message: trouble };
  const trial = ofTrial(journal, boot);
  if (trial !== null) return trial;
  // A check that runs while an image waits for its reboot must not hide that it waits.
  if (journal?.phase === 'armed') {
    return { status: 'reboot_required', message: `Reboot to finish the update to ${journal.target_version}` };
  }
  if (journal?.phase === 'rolledBack' && boot.running === journal.target_slot && boot.next === journal.previous_slot) {
    return { status: 'reboot_required', message: `Reboot to finish going back to ${journal.previous_version}` };
  }
  if (isOtherSlotNext(journal, boot)) {
    const message = `Slot ${boot.running} runs, picked by hand or marked bad, and slot ${boot.next} boots next`;
    return { status: 'reboot_required', message };
  }
  if (activity.kind === 'checking') return { status: 'checking' };
  return fromLast(last) ?? fromJournal(journal) ?? { status: 'idle' };
}

/** A trial that nobody here began: only a person can say what is to become of it, and by which verb. Null: there is none. */
export function strangeTrial(env: BootState | null, journal: Journal | null, running: Slot | null): string | null {
  if (env === null || env.trial === '') return null;
  if (journal !== null && journal.id === env.trial && !isSettled(journal.phase)) return null;
  const [slot] = env.order;
  const ways =
    running === slot
      ? `qx-update mark good ${slot} keeps it, qx-update mark bad ${slot}`
      : `qx-update mark bad ${slot}`;
  return `GRUB tries slot ${slot} for an update that this host does not know (${env.trial}): ${ways} gives it up`;
}

/** The reboot is behind it: what it waits for is its health gate, or the reboot that this has asked for. */
function ofTrial(journal: Journal | null, { running }: Boots): UpdateStatus | null {
  const isOnTrial = journal?.phase === 'trial' || (journal?.phase === 'armed' && running === journal.target_slot);
  if (journal === null || !isOnTrial) return null;
  const { target_version: version, error } = journal;
  if (error === null)
    return { status: 'applying', message: `Version ${version} runs on trial, until its health is known` };
  return { status: 'error', message: `Version ${version} is turned down, and the host reboots: ${error.detail}` };
}

/** With no update under way, which would be why. */
const isOtherSlotNext = (journal: Journal | null, { running, next }: Boots): boolean =>
  running !== null && next !== null && running !== next && isSettled(journal?.phase ?? 'idle');

function fromLast(last: LastResult): UpdateStatus | null {
  switch (last?.kind) {
    case undefined:
      return null;
    case 'up_to_date':
      return { status: 'up_to_date' };
    case 'available':
      return { status: 'available', message: `Version ${last.version} available` };
    case 'downloaded':
      return { status: 'available', message: `Version ${last.version} is downloaded` };
    case 'complete':
      return { status: 'complete', message: `Updated to version ${last.version}` };
    case 'stopped':
      return { status: 'idle', message: last.message };
    case 'error':
      return { status: 'error', message: last.message };
  }
}

/** After a restart, of the agent or the host, the outcome of the last update is still worth knowing. */
function fromJournal(journal: Journal | null): UpdateStatus | null {
  if (journal?.dismissed === true) return null;
  switch (journal?.phase) {
    case 'complete':
      return { status: 'complete', message: `Updated to version ${journal.target_version}` };
    case 'rolledBack':
      return {
        status: wanted(journal) ? 'idle' : 'error',
        message: `Rolled back from ${journal.target_version}: ${journal.error?.detail ?? ''}`,
      };
    case 'failed':
      if (wanted(journal)) return { status: 'idle', message: `The update to ${journal.target_version} was cancelled` };
      return { status: 'error', message: `Update to ${journal.target_version} failed: ${journal.error?.detail ?? ''}` };
    default:
      return null;
  }
}

/** What somebody asked for is how it was to end. */
const wanted = ({ error }: Journal): boolean => error?.code === 'ROLLED_BACK' || error?.code === 'CANCELLED';

const percent = (done: number, total: number): number =>
  total <= 0 ? 0 : Math.min(100, Math.floor((done / total) * 100));
