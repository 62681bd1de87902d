import { expect, test } from 'vitest';
import { checkInstallable } from '../../src/core/installable.ts';
import type { Manifest } from '../../src/format/manifest.ts';

const NOW_MS = Date.parse('2026-12-01T00:00:00Z');
const image = (requires_reboot: boolean) => ({ requires_reboot }) as NonNullable<Manifest['full_image']>;

test.each<[string, Parameters<typeof checkInstallable>[0], string | null]>([
  ['says nothing of it', {}, null],
  ['has time left', { expires_at: '2026-12-01T00:00:01Z' }, null],
  ['is over now', { expires_at: '2026-12-01T00:00:00Z' }, 'EXPIRED'],
  ['names no instant, which is for its reader to say', { expires_at: 'soon' }, null],
  ['has an image', { full_image: image(true) }, null],
  ['has an image that would need no reboot', { full_image: image(false) }, 'MANIFEST_INVALID'],
])('a release that %s', (_what, manifest, code) => {
  const check = () => checkInstallable({ version: '1.2.0', ...manifest }, NOW_MS);
  if (code === null) expect(check).not.toThrow();
  else expect(check).toThrow(expect.objectContaining({ code }));
});
