import { type Source, sourceOf } from '../delivery/source.ts';
import { MEMBERSHIP_PATH } from '../format/membership.ts';
import { type ReleaseServer, type Settings, settingsOf } from '../format/settings-change.ts';
import { loadMembership } from './fleet/membership.ts';
import type { Host } from './host.ts';

/**
 * Where this host fetches its releases: from the server that somebody wrote down, else from that of its fleet. Asked each time, so
 * that enrolling and leaving change it at once and leave nothing behind in the settings.
 */

const NOBODYS = { url: 'http://localhost:9000', origin: null } as const;

/** @throws QxError STATE_INVALID | STATE_TOO_NEW where nobody wrote one, and the file of the fleet cannot be read */
export async function releaseServer({
  config,
  files,
}: Pick<Host, 'config' | 'files'>): Promise<ReleaseServer & { readonly url: string }> {
  const { serverUrl: url, origins } = config;
  if (url !== null) return { url, origin: origins.get('server_url') ?? null };
  const membership = await loadMembership(files);
  return membership === null ? NOBODYS : { url: membership.server, origin: MEMBERSHIP_PATH };
}

/** @throws QxError CONFIG_INVALID | STATE_INVALID | STATE_TOO_NEW */
export const releaseSource = async (host: Pick<Host, 'config' | 'files'>): Promise<Source> =>
  sourceOf({ ...host.config, serverUrl: (await releaseServer(host)).url });

/** The settings as they count now. */
export const shownSettings = async (host: Pick<Host, 'config' | 'files'>): Promise<Settings> =>
  settingsOf(host.config, await releaseServer(host).catch(() => ({ url: null, origin: MEMBERSHIP_PATH })));
