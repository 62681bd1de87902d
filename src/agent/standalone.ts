import { isOpen, nextOpeningMs } from '../core/window.ts';
import type { Config } from '../format/config.ts';
import type { Clock, Files, Grant, Offer, Report } from '../ports.ts';
import { PATHS } from './host.ts';

/**
 * The answers of a host that no fleet manages: it may always install, and reboot when a maintenance window is open and
 * nobody inhibits it. A file in `/run/quantix/inhibit` is an inhibitor, a drain that is still open for example; its content
 * says why.
 */
export const standaloneOffer = (host: { readonly config: Config; clock: Clock; files: Files }): Offer => ({
  mayApply: async () => ({ granted: true }),
  mayReboot: async () =>
    (await inhibited(host.files)) ?? outsideWindow(host.config, host.clock.nowMs()) ?? { granted: true },
});

const MAX_REASON_BYTES = 4096;

async function inhibited(files: Files): Promise<Grant | null> {
  const [name] = await files.list(PATHS.inhibit);
  if (name === undefined) return null;
  const bytes = await files.read(`${PATHS.inhibit}/${name}`, MAX_REASON_BYTES);
  const why = new TextDecoder().decode(bytes ?? new Uint8Array()).trim();
  return { granted: false, reason: `${name} inhibits the reboot${why === '' ? '' : `: ${why}`}` };
}

function outsideWindow({ windows }: Config, nowMs: number): Grant | null {
  if (isOpen(windows, nowMs)) return null;
  const opensMs = nextOpeningMs(windows, nowMs);
  return {
    granted: false,
    reason: `no maintenance window is open; the next one opens at ${new Date(opensMs).toISOString()}`,
    retryAfterMs: opensMs - nowMs,
  };
}

/** Nobody to tell: the journal and the log have it. */
export const standaloneReport: Report = { outcome: async () => {} };
