import { armTrial, invalidate, type Slot } from '../core/boot.ts';
import { isReleaseAtFault, withSlot } from '../core/memory.ts';
import { type InstallRequest, isRefusal, type Plan, type Refusal, refusal } from '../core/plan.ts';
import { asQxError } from '../errors.ts';
import type { Journal } from '../format/journal.ts';
import type { FullImage } from '../format/manifest.ts';
import { takeBaseline } from './baseline.ts';
import { changeBoot, expectWritableBoot } from './bootenv.ts';
import { lockHost, makePlan, noted, releaseOf } from './check.ts';
import { newEntries, restartsAgent, swapComponents } from './components.ts';
import { heldBack } from './hold.ts';
import { type Host, instant, stopwatch, type Watch } from './host.ts';
import { mountTrouble } from './mounts.ts';
import { finishComponents, isInPlace, rememberFailure, tell, undoComponentsOf, withdraw } from './outcome.ts';
import { recover } from './recover.ts';
import { hashHead } from './slot/head.ts';
import { writeSlotFrom } from './slot.ts';
import { clearStaging, fetchAll, staged } from './staging.ts';
import { advance, loadJournal, loadMemory, saveJournal, saveMemory } from './store.ts';

/**
 * Where a release becomes bytes on this host: trust, plan, fetch, slot, components, arm. What follows the reboot is in
 * `confirm.ts`; what follows a crash, at whichever line, is in `recover.ts`.
 */

export type InstallResult =
  | Refusal
  | { readonly kind: 'complete' | 'reboot_required'; readonly version: string; readonly restartsAgent: boolean };

/** @throws QxError when it was begun and could not be finished; the host is then as it was before */
export async function install(host: Host, request: InstallRequest, watch: Watch): Promise<InstallResult> {
  const unlock = await noted(host, () => lockHost(host));
  if (isRefusal(unlock)) return unlock;
  try {
    const begun = await noted(host, () => prepare(host, request, watch));
    if (!isRefusal(begun)) return await carryOut(host, begun, watch);
    return begun.code === 'ALREADY_INSTALLED' ? await waiting(host) : begun;
  } finally {
    await unlock();
  }
}

/** What was asked for is done already, up to the reboot. */
const waiting = async (host: Host): Promise<InstallResult> => ({
  kind: 'reboot_required',
  version: (await loadJournal(host))?.target_version ?? '',
  restartsAgent: false,
});

interface Begun {
  readonly plan: Plan;
  readonly journal: Journal;
}

async function prepare(host: Host, request: InstallRequest, watch: Watch): Promise<Begun | Refusal> {
  await recover(host);
  const lost = await mountTrouble(host);
  if (lost !== null) throw lost;
  const held = await heldBack(host);
  if (held !== null) return held;
  const plan = await makePlan(host, request, watch);
  if (plan.kind === 'refusal') {
    const isHere = plan.code === 'NOTHING_NEWER' || plan.code === 'ALREADY_INSTALLED';
    if (isHere && request.reboot === true) await wantReboot(host);
    return plan;
  }
  const grant = await host.offer.mayApply(releaseOf(plan.manifest), plan.requiresReboot);
  if (!grant.granted) return refusal('OFFER_REFUSED', grant.reason, 'qx-update status; it is asked again by itself');
  if (plan.image !== null) await expectWritableBoot(host);
  await makeWay(host, plan, watch);
  return { plan, journal: await begin(host, plan, request) };
}

async function carryOut(host: Host, { plan, journal: begun }: Begun, watch: Watch): Promise<InstallResult> {
  let journal = begun;
  try {
    const lap = stopwatch(host.clock);
    // Every byte of every artifact is here and verified before the first file of the host is touched.
    await fetchAll(host, plan, watch);
    const download_ms = lap();
    if (plan.image !== null) {
      await takeBaseline(host, journal.id, watch.signal);
      journal = await writeImage(host, journal, plan.image, watch);
    }
    if (plan.components.length > 0) journal = await applyComponents(host, journal, plan, watch);
    journal = { ...journal, timings: { download_ms, apply_ms: lap() } };
    journal = plan.image === null ? await finishComponents(host, journal) : await arm(host, journal);
  } catch (error) {
    await abandon(host, error);
    throw error;
  }
  await clearStaging(host, plan);
  const kind = plan.image === null ? 'complete' : 'reboot_required';
  return { kind, version: plan.manifest.version, restartsAgent: restartsAgent(journal) };
}

/**
 * A release that still waits for its reboot makes way: two half-tested releases at once could not be told apart. It goes only
 * once its successor is here, since a server that fails now would otherwise cost the host both.
 */
async function makeWay(host: Host, plan: Plan, watch: Watch): Promise<void> {
  const journal = await loadJournal(host);
  if (journal?.phase !== 'armed') return;
  await fetchAll(host, plan, watch);
  const error = { code: 'SUPERSEDED', detail: 'another release took its place' };
  await tell(host, await withdraw(host, journal, error), 'failed');
}

/** In the journal, because an update that replaces the agent's executable is rebooted into by the agent's successor. */
async function wantReboot(host: Host): Promise<void> {
  const journal = await loadJournal(host);
  if (journal?.phase === 'armed') await saveJournal(host, { ...journal, reboot_wanted: true });
}

async function begin(host: Host, plan: Plan, request: InstallRequest): Promise<Journal> {
  const { manifest, image, targetSlot, digest } = plan;
  const booted = await host.boot.booted();
  const now = instant(host.clock);
  const journal: Journal = {
    previous_slot: booted.slot,
    target_slot: targetSlot,
    target_version: manifest.version,
    boot_attempts: 0,
    max_attempts: 3,
    pending: false,
    format: 1,
    id: host.random.id(),
    phase: 'fetching',
    ...releaseOf(manifest),
    previous_version: plan.installedVersion,
    release_date: manifest.release_date,
    release_digest: digest,
    min_rollback_version: manifest.min_rollback_version ?? null,
    reboot_wanted: request.reboot === true,
    is_whole: plan.isWhole,
    image: image === null ? null : imageOf(image),
    components: await newEntries(host, plan.components),
    started_at: now,
    updated_at: now,
    error: null,
  };
  const { id, target_version: version, previous_version } = journal;
  await host.audit.record({ event: 'update_started', fields: { id, version, previous_version, digest } });
  return saveJournal(host, journal);
}

const imageOf = ({ artifact, sha256, size_bytes, requires_reboot }: FullImage) => ({
  artifact,
  sha256,
  size_bytes,
  requires_reboot,
});

async function writeImage(host: Host, journal: Journal, image: FullImage, watch: Watch): Promise<Journal> {
  const slot = journal.target_slot as Slot;
  const writing = await advance(host, journal, 'writeSlot');
  // Both copies say "not ok" on disk before the first byte: a half-written slot is never a choice of GRUB's.
  const invalidateSlot = async (): Promise<void> => {
    await saveMemory(host, withSlot(await loadMemory(host), slot, null));
    await changeBoot(host, (state) => invalidate(state, slot));
  };
  const path = staged(host, image);
  const { target_version: version } = journal;
  const layout = await writeSlotFrom(host, { slot, image, version, path, invalidate: invalidateSlot, watch });
  const { sha256, size_bytes } = image;
  const own_version = await host.disk.versionInImage(path);
  const head = layout === 'raw' ? { head_sha256: await hashHead(host, slot) } : {};
  const content = { version, sha256, size_bytes, layout, written_at: instant(host.clock), own_version, ...head };
  await saveMemory(host, withSlot(await loadMemory(host), slot, content));
  return writing;
}

async function applyComponents(host: Host, journal: Journal, plan: Plan, watch: Watch): Promise<Journal> {
  const applying = await advance(host, journal, 'applyComponents');
  return swapComponents(host, applying, plan, watch);
}

/** The journal first: a trial that the journal does not know could not be told from somebody else's. */
async function arm(host: Host, journal: Journal): Promise<Journal> {
  const armed = await advance(host, journal, 'arm', { pending: true, armed_in: await host.boot.bootId() });
  await changeBoot(host, (state) => armTrial(state, journal.target_slot as Slot, journal.id));
  await host.audit.record({ event: 'update_armed', fields: { id: journal.id, slot: journal.target_slot } });
  host.log.info('update_armed', { id: journal.id, version: journal.target_version, slot: journal.target_slot });
  return armed;
}

/** Puts back what was changed and says why. A release that failed by its own fault is not taken again by itself. */
async function abandon(host: Host, cause: unknown): Promise<void> {
  const { code, message } = asQxError(cause);
  const journal = await loadJournal(host);
  if (journal === null) return;
  const error = { code, detail: message };
  host.log.warn('update_failed', { id: journal.id, version: journal.target_version, phase: journal.phase, ...error });
  // Only the bookkeeping failed; the next start, or the next install, finishes it.
  if (isInPlace(journal)) return;
  await rememberFailure(host, journal, error, isReleaseAtFault(code));
  await tell(host, await giveUp(host, journal, error), 'failed');
}

async function giveUp(host: Host, journal: Journal, error: NonNullable<Journal['error']>): Promise<Journal> {
  if (journal.phase === 'armed') return withdraw(host, journal, error);
  if (journal.phase === 'applying') return undoComponentsOf(host, await advance(host, journal, 'undo', { error }));
  return advance(host, journal, 'fail', { error });
}
