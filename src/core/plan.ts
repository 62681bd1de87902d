import { type Code, QxError } from '../errors.ts';
import type { SignedManifest } from '../format/detached.ts';
import type { Component, FullImage, Manifest } from '../format/manifest.ts';
import { compareVersions, isNewer } from '../format/version.ts';
import { other, type Slot } from './boot.ts';
import { orderComponents } from './components.ts';

/**
 * What a trusted release would change on this host: the components and the image that are newer than what is there, in the
 * order in which they are installed, or the reason why nothing is done. Pure; `agent/install.ts` carries it out.
 */

export interface HostFacts {
  /** Of the release that this host has: the image's, or a newer one that only changed components. */
  readonly version: string;
  /** The same, of the slot that runs: an older one while somebody has picked the other slot by hand. */
  readonly currentVersion: string;
  /** Version of the running image. */
  readonly osVersion: string;
  /** The versions that run: the image's own, or newer ones in /data. */
  readonly components: ReadonlyMap<string, string>;
  /** The image's own. */
  readonly carried: ReadonlyMap<string, string>;
  /** Null when the kernel command line names no slot: there is no inactive one then. */
  readonly runningSlot: Slot | null;
  /** SHA-256 of the image that was written to the running slot; null when somebody else wrote it. */
  readonly runningImage: string | null;
  /** The running slot is not marked good. */
  readonly isOnTrial: boolean;
  /** Releases that came to nothing on this host, by their digests. */
  readonly bad: ReadonlyMap<string, BadRelease>;
  /** The release whose image waits for a reboot, if any. */
  readonly armed: { readonly digest: string; readonly version: string } | null;
}

export interface BadRelease {
  readonly reason: string;
  /** It is tried again by itself from then on; null when only somebody who names it tries it again. */
  readonly until: string | null;
  /** By somebody who wanted it so; nothing is wrong with it as far as anybody knows. */
  readonly isTakenBack?: boolean;
}

export interface InstallRequest {
  /** Only this version; its explicit choice also overrides that it failed before. */
  readonly version?: string;
  /** Only these components, and no image. */
  readonly components?: readonly string[];
  readonly allowDowngrade?: boolean;
  /** Whoever asks wants the reboot too, as soon as windows and drains allow. */
  readonly reboot?: boolean;
}

export interface Refusal {
  readonly kind: 'refusal';
  readonly code: Code;
  readonly detail: string;
  readonly next?: string;
}

export interface Plan {
  readonly kind: 'plan';
  readonly manifest: Manifest;
  readonly digest: string;
  readonly installedVersion: string;
  /** In the order in which they are swapped. */
  readonly components: readonly Component[];
  readonly image: FullImage | null;
  readonly targetSlot: Slot | null;
  readonly downloadBytes: number;
  readonly requiresReboot: boolean;
  /** The release that waits for its reboot and is taken back for this one. */
  readonly replaces: string | null;
  /** False when only some components were asked for: the host then does not have this release. */
  readonly isWhole: boolean;
}

export const refusal = (code: Code, detail: string, next?: string): Refusal => ({
  kind: 'refusal',
  code,
  detail,
  ...(next === undefined ? {} : { next }),
});

export const isRefusal = (result: unknown): result is Refusal =>
  typeof result === 'object' && result !== null && 'kind' in result && result.kind === 'refusal';

/** `release` has passed `judgeRelease`; what is refused here is only unwanted, or not possible on this host now. */
export function planUpdate(
  release: Pick<SignedManifest, 'manifest' | 'digest'>,
  facts: HostFacts,
  request: InstallRequest,
): Plan | Refusal {
  const { manifest, digest } = release;
  const refused = refuseAtAll(release, facts, request);
  if (refused !== null) return refused;
  const wanted = manifest.components.filter((component) => isWanted(component, facts, request));
  const components = inOrder(wanted, facts);
  if (isRefusal(components)) return components;
  const image = wantedImage(manifest, facts, request);
  if (components.length === 0 && image === null) return nothingToDo(manifest, request);
  const targetSlot = image === null ? null : chooseSlot(image, facts);
  if (isRefusal(targetSlot)) return targetSlot;
  const waits = refuseWhileWaiting(release, facts.armed, image);
  if (waits !== null) return waits;
  return {
    kind: 'plan',
    manifest,
    digest,
    installedVersion: replacedVersion(manifest, facts, image),
    components,
    image,
    targetSlot,
    downloadBytes: [...components, ...(image === null ? [] : [image])].reduce((sum, a) => sum + a.size_bytes, 0),
    requiresReboot: image !== null,
    replaces: facts.armed?.version ?? null,
    isWhole: request.components === undefined,
  };
}

/** A host that has the components of a release already and gets its image goes from the image that it had. */
const replacedVersion = ({ version }: Manifest, facts: HostFacts, image: FullImage | null): string =>
  image !== null && facts.currentVersion === version ? facts.osVersion : facts.currentVersion;

/** An image that waits for its reboot goes only for another image: no component is worth it, nor what came with it. */
function refuseWhileWaiting(
  { manifest: { version }, digest }: Pick<SignedManifest, 'manifest' | 'digest'>,
  armed: HostFacts['armed'],
  image: FullImage | null,
): Refusal | null {
  if (armed === null) return null;
  if (armed.digest === digest) {
    return refusal('ALREADY_INSTALLED', `release ${version} is installed and waits for its reboot`, 'qx-update reboot');
  }
  if (image !== null) return null;
  return refusal(
    'REBOOT_PENDING',
    `release ${armed.version} waits for its reboot, and components of ${version} alone would take it back`,
    'qx-update reboot finishes it, qx-update rollback takes it back; then repeat this',
  );
}

/** Whatever is in the release. */
function refuseAtAll(
  { manifest: { version }, digest }: Pick<SignedManifest, 'manifest' | 'digest'>,
  facts: HostFacts,
  request: InstallRequest,
): Refusal | null {
  if (facts.isOnTrial) {
    return refusal(
      'ON_TRIAL',
      'the running slot is not marked good yet: until it is, the other slot is the only way back',
      'qx-update confirm, or qx-update mark good booted',
    );
  }
  const bad = facts.bad.get(digest);
  if (bad === undefined || request.version === version) return null;
  // An image that waits for its reboot is what somebody has named since.
  if (facts.armed?.digest === digest) return null;
  if (bad.isTakenBack === true) {
    return refusal(
      'TAKEN_BACK',
      `release ${version} was taken back on this host and is not installed again by itself: ${bad.reason}`,
      `qx-update apply --version ${version} installs it again`,
    );
  }
  const when = bad.until === null ? 'is not tried again by itself' : `is tried again by itself after ${bad.until}`;
  return refusal(
    'RELEASE_BAD',
    `release ${version} failed on this host before and ${when}: ${bad.reason}`,
    `qx-update apply --version ${version} tries it once more`,
  );
}

function inOrder(components: readonly Component[], facts: HostFacts): readonly Component[] | Refusal {
  try {
    return orderComponents(components, facts.components);
  } catch (error) {
    if (error instanceof QxError) return refusal(error.code, error.message, error.next);
    throw error;
  }
}

function isWanted(component: Component, facts: HostFacts, request: InstallRequest): boolean {
  if (request.components !== undefined && !request.components.includes(component.name)) return false;
  // What is older than the image's own would lie in /data and never run.
  const own = facts.carried.get(component.name);
  if (own !== undefined && compareVersions(component.version, own) < 0) return false;
  return isChange(component.version, facts.components.get(component.name), request);
}

function wantedImage(manifest: Manifest, facts: HostFacts, request: InstallRequest): FullImage | null {
  if (request.components !== undefined || manifest.full_image === undefined) return null;
  // An image may say of itself that it is older than its release: installed again and again, it would say so again.
  if (manifest.full_image.sha256 === facts.runningImage) return null;
  return isChange(manifest.version, facts.osVersion, request) ? manifest.full_image : null;
}

/** Trust has already refused a downgrade that was not asked for; here the same wish decides what counts as different. */
function isChange(offered: string, installed: string | undefined, request: InstallRequest): boolean {
  if (installed === undefined) return true;
  return request.allowDowngrade === true ? compareVersions(offered, installed) !== 0 : isNewer(offered, installed);
}

function nothingToDo(manifest: Manifest, request: InstallRequest): Refusal {
  const unknown = (request.components ?? []).filter((name) => !manifest.components.some((c) => c.name === name));
  if (unknown.length > 0)
    return refusal(
      'NOT_FOUND',
      `release ${manifest.version} has no component ${unknown.join(', ')}`,
      'qx-update plan shows what it has',
    );
  return refusal('NOTHING_NEWER', `this host has everything of release ${manifest.version}`);
}

function chooseSlot(image: FullImage, facts: HostFacts): Slot | Refusal {
  if (facts.runningSlot === null) {
    return refusal(
      'SLOT_NOT_FOUND',
      'the kernel command line names no running slot, so no slot is known to be inactive',
      'boot through the grub.cfg of Quantix-OS',
    );
  }
  const wanted = image.target_slot ?? 'auto';
  if (wanted === facts.runningSlot) {
    return refusal(
      'SLOT_RUNNING',
      `the release asks for slot ${wanted}, which is running`,
      'publish it with target_slot auto',
    );
  }
  return other(facts.runningSlot);
}
