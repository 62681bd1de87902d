/**
 * A new image that keeps a host from being reached is turned back even when everything on the host is well: nobody could mend
 * it from outside. An outage that the old image would share is no reason to.
 */

export const CONTACT_WITHIN_MS = 3_600_000;

export interface Contact {
  /** Who answered; null when nobody did. The gateway is enough: what lies behind it is the same for every image. */
  readonly answered: 'server' | 'gateway' | null;
  /** False when the cable is out, or what it leads to is off: no image mends that. False also when nobody can tell. */
  readonly imageMayBeWhy: boolean;
}

export type ContactVerdict = 'wait' | 'over' | 'revert';

/** `sinceMs`: how long the new image has run. `hadContact`: somebody answered the image before it. */
export function contactVerdict(
  hadContact: boolean,
  { answered, imageMayBeWhy }: Contact,
  sinceMs: number,
): ContactVerdict {
  if (answered !== null || !hadContact) return 'over';
  return imageMayBeWhy && sinceMs >= CONTACT_WITHIN_MS ? 'revert' : 'wait';
}
