import { isOpen, nextOpeningMs } from '../../core/window.ts';
import type { Grant } from '../../ports/offer.ts';
import { type Host, PATHS } from '../host.ts';

/**
 * What this host itself says about a reboot, whoever else is asked: a maintenance window has to be open, and nobody may
 * inhibit it. A file in `/run/quantix/inhibit` is an inhibitor; its content says why.
 */

type Own = Pick<Host, 'config' | 'clock' | 'files'>;

/** Null: nothing here stands against it. */
export const refusedHere = async (host: Own): Promise<Grant | null> => (await inhibited(host)) ?? outsideWindow(host);

const MAX_REASON_BYTES = 4096;

async function inhibited({ files }: Own): Promise<Grant | null> {
  const [name] = await files.list(PATHS.inhibit);
  if (name === undefined) return null;
  const bytes = await files.read(`${PATHS.inhibit}/${name}`, MAX_REASON_BYTES);
  const why = new TextDecoder().decode(bytes ?? new Uint8Array()).trim();
  return { granted: false, reason: `${name} inhibits the reboot${why === '' ? '' : `: ${why}`}` };
}

function outsideWindow({ config: { windows }, clock }: Own): Grant | null {
  const nowMs = clock.nowMs();
  if (isOpen(windows, nowMs)) return null;
  const opensMs = nextOpeningMs(windows, nowMs);
  return {
    granted: false,
    reason: `no maintenance window is open; the next one opens at ${new Date(opensMs).toISOString()}`,
    retryAfterMs: opensMs - nowMs,
  };
}
