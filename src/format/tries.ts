/**
 * `/quantix/limiquantix/tries`: what the boot scripts note of the boots of a trial, a line for each: its id and what happened.
 * They are shell, so this is text; it is written anew with the first boot of each trial.
 */

export const TRIES_PATH = '/quantix/limiquantix/tries';
export const MAX_TRIES_BYTES = 4096;

export interface Tries {
  /** Boots that came as far as the first boot script. */
  readonly started: number;
  /** Seconds after which the deadline ended one of them, which is a verdict as well; null when it ended none. */
  readonly timedOutS: number | null;
}

/** Of this trial; lines of others, and what is damaged, say nothing. */
export function readTries(text: string, trial: string): Tries {
  const words = text
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([id]) => id === trial);
  const late = words.findLast(([, what, seconds]) => what === 'late' && /^[0-9]{1,5}$/.test(seconds ?? ''));
  return {
    started: words.filter(([, what]) => what === 'started').length,
    timedOutS: late === undefined ? null : Number(late[2]),
  };
}
