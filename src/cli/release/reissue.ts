import { reissueOf } from '../../core/reissue.ts';
import { QxError } from '../../errors.ts';
import type { Json } from '../../format/json.ts';
import { type Channel, readManifest } from '../../format/manifest.ts';

/**
 * The manifest of the same release, to be signed again. Everything but channel, sequence and expiry stays, unknown fields
 * and the order of fields included, so that it is the same release to every reader.
 */

export interface Reissue {
  readonly channel?: Channel;
  readonly sequence: number;
  readonly expiresAt?: string;
}

type Fields = { readonly [field: string]: Json };

export function reissued(manifest: Fields, { channel, sequence, expiresAt }: Reissue): Fields {
  const before = readManifest(manifest);
  const fields = {
    ...manifest,
    ...(channel && { channel }),
    sequence,
    ...(expiresAt && { expires_at: expiresAt }),
  };
  const after = readManifest(fields);
  if (after.channel === before.channel && reissueOf(before, after) !== 'refresh') {
    throw new QxError(
      'SEQUENCE_REPLAYED',
      `sequence ${sequence} has to be higher than ${before.sequence}, or hosts take it for a replay`,
      { next: 'leave --sequence out' },
    );
  }
  return fields;
}

/** Higher than any that was seen, and in step with the clock, so that it also is when somebody else counts from the clock. */
export const nextSequence = (seen: readonly (number | undefined)[], nowMs: number): number =>
  Math.max(Math.floor(nowMs / 1000), ...seen.map((sequence) => (sequence ?? 0) + 1));

/** @throws QxError EXPIRED */
export function refuseExpired(expiresAt: string | undefined, nowMs: number, next: string): void {
  if (expiresAt === undefined || Date.parse(expiresAt) > nowMs) return;
  throw new QxError('EXPIRED', `this release expired at ${expiresAt}: no host would install it`, { next });
}
