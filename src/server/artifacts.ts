import { QxError } from '../errors.ts';
import { ENVELOPE_NAME } from '../format/envelope.ts';
import { parseStrict } from '../format/json.ts';
import { CHANNELS, type Channel, type Manifest, PRODUCTS, type Product, readManifest } from '../format/manifest.ts';
import { checkVersion, compareVersions, isVersion } from '../format/version.ts';
import type { ReleaseRef } from '../ports/offer.ts';
import type { Files, Log } from '../ports.ts';

/**
 * The releases on disk: `RELEASE_DIR/{product}/{channel}/{version}/` with the artifacts, `manifest.signed.json` (the envelope
 * as it was published, and the only truth) and `manifest.json` (the manifest out of it, for people and static web servers;
 * nothing of ours reads it). A folder that has its version's name is complete: it got that name in one rename.
 */
export interface Store {
  readonly files: Files;
  readonly log: Log;
  /** Absolute. */
  readonly directory: string;
}

export interface Release {
  readonly manifest: Manifest;
  /** Exactly as they were published. */
  readonly manifestBytes: Uint8Array;
  readonly envelope: Uint8Array;
}

export const MANIFEST_NAME = 'manifest.json';
export const ENVELOPE_MAX_BYTES = 1 << 20;

export const incomingOf = (store: Store, id: string): string => `${store.directory}/.incoming/${id}`;
const trashOf = (store: Store, id: string): string => `${store.directory}/.trash/${id}`;

/** Every name is checked here too, whatever was checked before: this is the last place before it becomes a path. */
export function folderOf(store: Store, { product, channel, version }: ReleaseRef): string {
  if (!PRODUCTS.includes(product)) throw new QxError('BAD_REQUEST', 'no such product');
  if (!CHANNELS.includes(channel)) throw new QxError('BAD_REQUEST', 'no such channel');
  return `${store.directory}/${product}/${channel}/${checkVersion(version)}`;
}

/** Null when there is no such release, or nothing that can be read as one. */
export async function readRelease(store: Store, ref: ReleaseRef): Promise<Release | null> {
  const path = `${folderOf(store, ref)}/${ENVELOPE_NAME}`;
  try {
    const envelope = await store.files.read(path, ENVELOPE_MAX_BYTES);
    return envelope === null ? null : checkPlace(interpret(envelope), ref);
  } catch (error) {
    if (isShortage(error)) throw error;
    // One spoilt folder must not take a whole channel down; hosts trust the signature, not this server's list.
    store.log.warn('release_unreadable', { path, error: (error as Error).message });
    return null;
  }
}

/** For now nothing can be read: to hide releases would be to offer an older one as the newest. */
const isShortage = (error: unknown): boolean =>
  ['EMFILE', 'ENFILE', 'ENOMEM'].includes(String((error as { code?: unknown }).code));

function interpret(envelope: Uint8Array): Release {
  const { value, members } = parseStrict(envelope);
  const [start, end] = members.get('manifest') ?? [0, 0];
  const manifest = readManifest((value as { manifest?: never }).manifest ?? null);
  return { manifest, manifestBytes: envelope.subarray(start, end), envelope };
}

function checkPlace(release: Release, ref: ReleaseRef): Release {
  const { product, channel, version } = release.manifest;
  if (product === ref.product && channel === ref.channel && version === ref.version) return release;
  throw new Error(`the folder holds ${product} ${version} for ${channel}`);
}

/** Newest first. */
async function versionsOf(store: Store, product: Product, channel: Channel): Promise<string[]> {
  const names = await store.files.list(`${store.directory}/${product}/${channel}`);
  return names.filter(isVersion).sort((a, b) => compareVersions(b, a) || (a < b ? 1 : -1));
}

export async function latestRelease(store: Store, product: Product, channel: Channel): Promise<Release | null> {
  for (const version of await versionsOf(store, product, channel)) {
    const release = await readRelease(store, { product, channel, version });
    if (release !== null) return release;
  }
  return null;
}

export async function listReleases(store: Store, product: Product, channel: Channel): Promise<Release[]> {
  const versions = await versionsOf(store, product, channel);
  const releases = await Promise.all(versions.map((version) => readRelease(store, { product, channel, version })));
  return releases.filter((release) => release !== null);
}

/** Envelope last: a folder that is not yet complete has none. */
export async function writeManifest(store: Store, folder: string, release: Release): Promise<void> {
  await store.files.writeAtomic(`${folder}/${MANIFEST_NAME}`, release.manifestBytes);
  await store.files.writeAtomic(`${folder}/${ENVELOPE_NAME}`, release.envelope);
}

/** Gone from all lists at once; the bytes follow. */
export async function removeRelease(store: Store, ref: ReleaseRef, id: string): Promise<boolean> {
  const folder = folderOf(store, ref);
  if ((await store.files.info(folder)) === null) return false;
  await store.files.makeDirectory(trashOf(store, ''));
  await store.files.rename(folder, trashOf(store, id));
  await store.files.remove(trashOf(store, id));
  return true;
}

/** At start, when nothing is being published: clears away what a killed server left, and mends the copies of manifests. */
export async function recoverStore(store: Store): Promise<void> {
  const { files, log } = store;
  for (const left of ['.incoming', '.trash']) {
    const names = await files.list(`${store.directory}/${left}`);
    if (names.length > 0) log.warn('leftovers_removed', { folder: left, count: names.length });
    await files.remove(`${store.directory}/${left}`);
  }
  for (const product of PRODUCTS) {
    for (const channel of CHANNELS) {
      for (const release of await listReleases(store, product, channel)) await mendCopy(store, release);
    }
  }
}

async function mendCopy(store: Store, { manifest, manifestBytes }: Release): Promise<void> {
  const path = `${folderOf(store, manifest)}/${MANIFEST_NAME}`;
  const copy = await store.files.read(path, ENVELOPE_MAX_BYTES).catch(() => null);
  if (copy !== null && Buffer.compare(copy, manifestBytes) === 0) return;
  store.log.warn('manifest_copy_mended', { path });
  // Nothing of ours reads the copy: what is in its place is no reason not to serve.
  await store.files
    .writeAtomic(path, manifestBytes)
    .catch((error) => store.log.warn('manifest_copy_not_mended', { path, error: String(error) }));
}
