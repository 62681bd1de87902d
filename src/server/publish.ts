import { checkDated, isSequenceAhead } from '../core/dates.ts';
import { checkInstallable } from '../core/installable.ts';
import { reissueOf } from '../core/reissue.ts';
import { asQxError, QxError } from '../errors.ts';
import { openEnvelope } from '../format/envelope.ts';
import type { Keyring } from '../format/keyring.ts';
import { type ArtifactRef, artifactsOf, CHANNELS, type Product } from '../format/manifest.ts';
import type { Published } from '../format/routes.ts';
import type { ReleaseRef } from '../ports/offer.ts';
import type { Part } from '../ports/serving.ts';
import type { Clock, Random } from '../ports.ts';
import {
  ENVELOPE_MAX_BYTES,
  folderOf,
  incomingOf,
  type Release,
  readRelease,
  type Store,
  writeManifest,
} from './artifacts.ts';
import type { Exclusive } from './exclusive.ts';
import type { ReleaseSigner } from './signing.ts';
import { judge, listedAs, readWhole, type Staged, stage } from './staging.ts';

/**
 * How a release gets onto the server: everything is received and judged in a folder that nothing is served from, and one
 * rename makes it visible. So it appears at once and whole, or not at all, also when the server is killed at any point.
 *
 * The token that let the caller in decides nothing here: only what a trusted key signed is published.
 */
export interface Publisher {
  readonly store: Store;
  readonly random: Random;
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly exclusive: Exclusive;
  /** The keys whose releases are taken. */
  readonly keyring: Keyring;
  /** Signs bare manifests; null unless the operator has chosen to keep a key on the server. */
  readonly signer: ReleaseSigner | null;
  /** Of a file that arrives before the manifest, which would say how long it is. */
  readonly maxArtifactBytes: number;
}

export async function publish(publisher: Publisher, product: Product, parts: AsyncIterable<Part>): Promise<Published> {
  const { store, random } = publisher;
  const incoming = incomingOf(store, random.id());
  await store.files.makeDirectory(incoming);
  try {
    const { release, staged } = await receive(publisher, product, parts, incoming);
    const sent = judge(release.manifest, staged);
    // Two publishes of one release must not both find that it is not there yet.
    return await publisher.exclusive(folderOf(store, release.manifest), () => settle(store, release, sent, incoming));
  } catch (error) {
    const { code, message } = asQxError(error);
    store.log.warn('publish_refused', { product, code, detail: message });
    throw error;
  } finally {
    await store.files.remove(incoming);
  }
}

interface Received {
  readonly release: Release;
  readonly staged: readonly Staged[];
}

/** Parts may come in any order. Once the manifest is here, it bounds what follows; until then only the disk is filled. */
async function receive(
  publisher: Publisher,
  product: Product,
  parts: AsyncIterable<Part>,
  incoming: string,
): Promise<Received> {
  const { files } = publisher.store;
  const staged: Staged[] = [];
  let release: Release | null = null;
  for await (const part of parts) {
    if (part.name === 'manifest') {
      if (release !== null) throw new QxError('BAD_REQUEST', 'the part manifest was sent twice');
      release = await trust(publisher, product, await readWhole('manifest', part.bytes, ENVELOPE_MAX_BYTES));
      // Said before gigabytes are sent for nothing; asked again when it counts.
      await standing(publisher.store, release);
    } else {
      const ref = release && listedAs(release.manifest, part.name);
      if (ref !== null) await needSpace(publisher.store, ref);
      const path = `${incoming}/${staged.length}.part`;
      staged.push(await stage(files, path, part, ref?.size_bytes ?? publisher.maxArtifactBytes));
    }
  }
  if (release !== null) return { release, staged };
  throw new QxError('BAD_REQUEST', 'there is no part called manifest', {
    next: 'send the signed envelope as the part manifest: qx-release publish does it',
  });
}

async function trust(
  { keyring, signer, clock, store: { log } }: Publisher,
  product: Product,
  bytes: Uint8Array,
): Promise<Release> {
  const envelope = await signIfBare(bytes, signer);
  const { manifest, manifestBytes } = await openEnvelope(envelope, keyring);
  if (manifest.product !== product)
    throw new QxError('WRONG_PRODUCT', `this is a release of ${manifest.product}, sent to ${product}`, {
      next: 'qx-release publish sends it where it belongs',
    });
  checkDated(manifest, clock.nowMs(), 'this server');
  checkInstallable(manifest, clock.nowMs());
  // A channel may count in its own way: whoever signed it has said so to qx-release.
  if (isSequenceAhead(manifest, clock.nowMs()))
    log.warn('sequence_ahead', { version: manifest.version, sequence: manifest.sequence });
  return { manifest, manifestBytes, envelope };
}

/** A bare manifest has no `signature` and no `manifest` in it; whatever has one of them is judged as it is. */
async function signIfBare(bytes: Uint8Array, signer: ReleaseSigner | null): Promise<Uint8Array> {
  return signer?.isBare(bytes) ? signer.seal(bytes) : bytes;
}

/** Before the first byte: a disk that runs full in the middle hurts everything else on it. */
async function needSpace({ files, directory }: Store, { artifact, size_bytes }: ArtifactRef): Promise<void> {
  const free = await files.freeBytes(directory);
  if (size_bytes <= free) return;
  throw new QxError('NO_SPACE', `${artifact} has ${size_bytes} bytes, the server has ${free} left`, {
    next: 'take releases away that no host needs (qx-release withdraw), or give RELEASE_DIR a larger disk',
  });
}

/** The moment of truth, alone with this release: whatever came before could have been overtaken. */
async function settle(
  store: Store,
  release: Release,
  sent: ReadonlyMap<string, Staged>,
  incoming: string,
): Promise<Published> {
  const { manifest } = release;
  const folder = folderOf(store, manifest);
  switch (await standing(store, release)) {
    case 'new':
      await assemble(store, release, sent, `${incoming}/release`);
      await store.files.makeDirectory(folder.slice(0, folder.lastIndexOf('/')));
      await store.files.rename(`${incoming}/release`, folder);
      store.log.info('release_published', { ...refOf(release) });
      break;
    case 'refresh':
      await writeManifest(store, folder, release);
      store.log.info('release_refreshed', { ...refOf(release), sequence: manifest.sequence });
      break;
    case 'same':
      // A client that lost the answer asks again.
      break;
  }
  return { status: 'published', ...refOf(release), artifacts: artifactsOf(manifest).map((ref) => ref.artifact) };
}

/** How the release stands to what is published under its version. @throws QxError REFUSED_OVERWRITE */
async function standing(store: Store, release: Release): Promise<'new' | 'same' | 'refresh'> {
  const { product, version, channel } = release.manifest;
  const existing = await readRelease(store, release.manifest);
  if (existing === null) {
    if ((await store.files.info(folderOf(store, release.manifest))) === null) {
      await checkOtherChannels(store, release);
      return 'new';
    }
    throw new QxError(
      'REFUSED_OVERWRITE',
      `there is something that cannot be read as a release at ${channel}/${version}`,
      {
        next: `look at it on the server, then qx-release withdraw ${version} --channel ${channel} --product ${product}, and publish again`,
      },
    );
  }
  const relation = reissueOf(existing.manifest, release.manifest);
  if (relation !== 'different') return relation;
  throw new QxError('REFUSED_OVERWRITE', `${product} ${version} is published in ${channel}, with another manifest`, {
    next: 'publish under a new version; only sequence (higher) and expires_at may change: qx-release refresh',
  });
}

/** One version is one set of bytes, in whichever channel: a host that changes its channel would not notice the others. */
async function checkOtherChannels(store: Store, { manifest }: Release): Promise<void> {
  for (const channel of CHANNELS) {
    const other = channel === manifest.channel ? null : await readRelease(store, { ...manifest, channel });
    const theirs = new Map(other && artifactsOf(other.manifest).map((ref) => [ref.artifact, ref.sha256]));
    const clash = artifactsOf(manifest).find((ref) => (theirs.get(ref.artifact) ?? ref.sha256) !== ref.sha256);
    if (clash === undefined) continue;
    throw new QxError('REFUSED_OVERWRITE', `${manifest.version} in ${channel} has another ${clash.artifact}`, {
      next: `promote it from there (qx-release promote ${manifest.version} --to ${manifest.channel}), or use a new version`,
    });
  }
}

/** The whole release in one folder, on disk, before anybody can see it. */
async function assemble(
  store: Store,
  release: Release,
  sent: ReadonlyMap<string, Staged>,
  folder: string,
): Promise<void> {
  await store.files.makeDirectory(folder);
  for (const ref of artifactsOf(release.manifest)) {
    const file = sent.get(ref.artifact);
    const path = `${folder}/${ref.artifact}`;
    if (file !== undefined) await store.files.rename(file.path, path);
    else await store.files.duplicate(await findElsewhere(store, release, ref), path);
  }
  await writeManifest(store, folder, release);
}

/** Promotion sends no bytes again: the same file of the same version lies in another channel. */
async function findElsewhere(store: Store, { manifest }: Release, { artifact, sha256 }: ArtifactRef): Promise<string> {
  for (const channel of CHANNELS) {
    const other = channel === manifest.channel ? null : await readRelease(store, { ...manifest, channel });
    const same = other && artifactsOf(other.manifest).find((ref) => ref.sha256 === sha256);
    if (!same) continue;
    const path = `${folderOf(store, { ...manifest, channel })}/${same.artifact}`;
    // Hashed again: a disk that lost a bit since would otherwise spread it.
    if ((await store.files.info(path))?.kind === 'file' && (await store.files.hash(path)).sha256 === sha256)
      return path;
  }
  throw new QxError(
    'ARTIFACT_MISSING',
    `${artifact} was not sent, and no other channel has it for ${manifest.version}`,
    {
      next: 'send every file of the release in one request',
    },
  );
}

const refOf = ({ manifest: { product, version, channel } }: Release): ReleaseRef => ({ product, version, channel });
