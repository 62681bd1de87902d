import { signedBytes } from '../format/detached.ts';
import type { Json } from '../format/json.ts';
import type { Manifest } from '../format/manifest.ts';

/**
 * How a manifest stands to the one that is published under the same version.
 *
 * Artifacts and version never change. Only the statement "this is still current" may be made again: a higher `sequence`, a
 * later `expires_at`, and nothing else, so that a quiet channel stays installable.
 */
export type Reissue = 'same' | 'refresh' | 'different';

export function reissueOf(published: Manifest, offered: Manifest): Reissue {
  if (text(published) === text(offered)) return 'same';
  if (text(withoutStatement(published)) !== text(withoutStatement(offered))) return 'different';
  return (offered.sequence ?? 0) > (published.sequence ?? 0) ? 'refresh' : 'different';
}

function withoutStatement(manifest: Manifest): Omit<Manifest, 'sequence' | 'expires_at'> {
  const { sequence: _sequence, expires_at: _expiresAt, ...rest } = manifest;
  return rest;
}

const text = (manifest: object): string => new TextDecoder().decode(signedBytes(manifest as Json));
