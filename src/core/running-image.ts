/** What is known of the image that an update wrote, and what the system says that runs in its trial. */
export interface ImageEvidence {
  /** Null: it does not say which version it is. */
  readonly running: string | null;
  /** What the written image says of itself, where that was noted. */
  readonly written: string | null;
  readonly target: string;
  readonly previous: string;
}

/**
 * Whether the system that runs can be the one that was written. An image that says nothing of itself leaves its version to
 * whoever laid the host: what was there before the update then says nothing either.
 */
export function canBeImage({ running, written, target, previous }: ImageEvidence): boolean {
  if (written !== null) return running === written;
  return running === null || running === target || running === previous;
}
