import { drainPauseMs, elapsedMs } from '../../core/drain-pause.ts';
import { writeDocument } from '../../format/document.ts';
import { DRAIN_PAUSE_PATH, type DrainPause, readDrainPause } from '../../format/drain-pause.ts';
import type { Clock, Files } from '../../ports.ts';
import { instant } from '../host.ts';

/** The pause after a drain that came to nothing. It outlives the agent: a restart is no reason to move guests about again. */

interface Machine {
  readonly files: Files;
  readonly clock: Clock;
}

const MAX_BYTES = 64 << 10;
const MAX_REASON = 1000;

export async function loadPause({ files, clock }: Machine): Promise<DrainPause | null> {
  const bytes = await files.read(DRAIN_PAUSE_PATH, MAX_BYTES);
  if (bytes === null) return null;
  const pause = readDrainPause(bytes);
  if (Date.parse(pause.at) <= clock.nowMs()) return pause;
  // The clock was put right since. Written anew, or the pause would begin again each time that somebody looks.
  return savePause(files, { ...pause, at: instant(clock) });
}

export async function lengthenPause(host: Machine, reason: string): Promise<DrainPause> {
  const failures = ((await loadPause(host).catch(() => null))?.failures ?? 0) + 1;
  return savePause(host.files, {
    format: 1,
    failures,
    at: instant(host.clock),
    pause_ms: drainPauseMs(failures),
    reason: reason.slice(0, MAX_REASON),
  });
}

/** A person wants it now. The next pause is as long as it would have been. */
export async function endPause(host: Machine): Promise<void> {
  const pause = await loadPause(host);
  if (pause !== null) await savePause(host.files, { ...pause, pause_ms: 0 });
}

export const forgetPause = (files: Files): Promise<void> => files.remove(DRAIN_PAUSE_PATH);

export const leftMs = ({ at, pause_ms }: DrainPause, nowMs: number): number =>
  Math.max(0, pause_ms - elapsedMs(at, nowMs));

async function savePause(files: Files, pause: DrainPause): Promise<DrainPause> {
  await files.makeDirectory(DRAIN_PAUSE_PATH.slice(0, DRAIN_PAUSE_PATH.lastIndexOf('/')), 0o700);
  await files.writeAtomic(DRAIN_PAUSE_PATH, writeDocument(pause), 0o600);
  return pause;
}

export function pauseInWords(pause: DrainPause): string {
  const again = new Date(Date.parse(pause.at) + pause.pause_ms).toISOString();
  return `${pause.reason}; it is tried again at ${again}, and at once by qx-update reboot`;
}
