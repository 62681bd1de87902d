import { QxError } from '../errors.ts';
import type { Manifest } from '../format/manifest.ts';

/** What no host would install, whoever signed it: refused where it is made and where it is published, before anybody waits for it. */

/** @throws QxError MANIFEST_INVALID | EXPIRED */
export function checkInstallable(
  { version = '', expires_at, full_image }: Partial<Pick<Manifest, 'version' | 'expires_at' | 'full_image'>>,
  nowMs: number,
): void {
  if (full_image?.requires_reboot === false) {
    throw new QxError(
      'MANIFEST_INVALID',
      `release ${version} has an image with requires_reboot false, and no image runs without one`,
      {
        next: 'leave it to qx-release manifest, or say true',
      },
    );
  }
  // What is no instant at all is for the reader of manifests to say.
  if (expires_at === undefined || !(Date.parse(expires_at) <= nowMs)) return;
  throw new QxError('EXPIRED', `release ${version} could be installed until ${expires_at}: no host takes it any more`, {
    next: 'qx-release refresh signs it again with a later expiry',
  });
}
