import { latestNowMs } from '../core/dates.ts';
import { type InstallRequest, isRefusal, type Plan, planUpdate, type Refusal, refusal } from '../core/plan.ts';
import { remember } from '../core/trust.ts';
import { type KnownRelease, type TrustedRelease, trustedRelease } from '../delivery/trust.ts';
import { asQxError, type Code, ERRORS } from '../errors.ts';
import type { Manifest } from '../format/manifest.ts';
import type { ReleaseRef } from '../ports/offer.ts';
import { type Situation, situation, startingPoint } from './facts.ts';
import { type Host, PATHS, type Watch } from './host.ts';
import { releaseSource } from './source.ts';
import { loadMemory, saveMemory } from './store.ts';

/** What would be installed now: the newest trusted release, held against what this host has. */

/** The last release that was trusted, so that a check with nothing new costs one 304. */
export interface EnvelopeCache {
  known: KnownRelease | null;
}

export const releaseOf = ({ product, channel, version }: Manifest): ReleaseRef => ({ product, channel, version });

/** Changes nothing that an update depends on; may run while one does. */
export const check = (host: Host, watch: Watch, cache: EnvelopeCache): Promise<Plan | Refusal> =>
  noted(host, async () => {
    const { release, now } = await ask(host, {}, watch, cache);
    if (release.kind === 'refusal') return release;
    cache.known = release.known;
    const unlock = await host.files.lock(PATHS.lock);
    if (unlock !== null) await rememberSeen(host, release.manifest).finally(unlock);
    return planUpdate(release, startingPoint(now), {});
  });

/** With the lock held. What it refuses is for the caller to note. */
export async function makePlan(host: Host, request: InstallRequest, watch: Watch): Promise<Plan | Refusal> {
  watch.progress?.({ phase: 'checking', name: 'manifest', doneBytes: 0, totalBytes: 0 });
  const { release, now } = await ask(host, request, watch, { known: null });
  if (release.kind === 'refusal') return release;
  await rememberSeen(host, release.manifest);
  return planUpdate(release, startingPoint(now), request);
}

/** At most one update at a time, whoever asks for it. */
export const lockHost = async ({ files }: Host): Promise<Refusal | (() => Promise<void>)> =>
  (await files.lock(PATHS.lock)) ?? refusal('BUSY', 'an update is under way on this host', 'qx-update status');

/** One event for whatever is refused or fails before an update has begun; from then on `outcome.ts` tells how it ends. */
export async function noted<T>(host: Host, act: () => Promise<T | Refusal>): Promise<T | Refusal> {
  try {
    const result = await act();
    return isRefusal(result) ? await refuse(host, result) : result;
  } catch (error) {
    const { code, message } = asQxError(error);
    await refuse(host, refusal(code, message));
    throw error;
  }
}

const QUIET: ReadonlySet<Code> = new Set<Code>(['REBOOT_PENDING', 'ALREADY_INSTALLED', 'CANCELLED']);

/** That there is nothing to do, or nothing before the reboot, or that somebody changed their mind, is no refusal. */
async function refuse(host: Host, refused: Refusal): Promise<Refusal> {
  const { code, detail } = refused;
  const { product, channel } = host.config;
  if (ERRORS[code].exit !== 'nothing' && !QUIET.has(code)) {
    host.log.warn('update_refused', { code, detail, product, channel });
    await host.audit.record({ event: 'release_refused', code, detail, fields: { product, channel } });
  }
  return refused;
}

async function ask(
  host: Host,
  request: InstallRequest,
  { signal }: Watch,
  { known }: EnvelopeCache,
): Promise<{ release: TrustedRelease | Refusal; now: Situation }> {
  const now = await situation(host);
  const release = await trustedRelease(host, {
    source: await releaseSource(host),
    keyring: host.keyring,
    memory: now.memory,
    installedVersion: now.facts.version,
    compatible: host.config.compatible,
    buildDateMs: host.buildDateMs,
    isRoot: host.isRoot,
    known,
    ...(request.version === undefined ? {} : { version: request.version }),
    ...(request.allowDowngrade === undefined ? {} : { allowDowngrade: request.allowDowngrade }),
    ...(signal === undefined ? {} : { signal }),
  });
  return { release, now };
}

async function rememberSeen(host: Host, manifest: Manifest): Promise<void> {
  const memory = await loadMemory(host);
  const next = remember(memory, manifest, host.keyring.epoch, latestNowMs(host.clock.nowMs(), host.buildDateMs));
  if (next !== memory) await saveMemory(host, next);
}
