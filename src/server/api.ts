import { createHash } from 'node:crypto';
import { fieldsOf, QxError } from '../errors.ts';
import { ENVELOPE_NAME } from '../format/envelope.ts';
import { artifactsOf, CHANNELS, type Channel, type Product } from '../format/manifest.ts';
import type { Ready, SERVER_ROUTES } from '../format/routes.ts';
import type { Caller, Handlers, Ranges, Reply } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';
import {
  folderOf,
  latestRelease,
  listReleases,
  MANIFEST_NAME,
  type Release,
  readRelease,
  removeRelease,
} from './artifacts.ts';
import { answer } from './conditional.ts';
import { type Publisher, publish } from './publish.ts';
import { generateKeys } from './signing.ts';

export interface Server {
  readonly publisher: Publisher;
  readonly ranges: Ranges;
  readonly clock: Clock;
  /** Where keys may be generated; null unless the server was started with --dev. */
  readonly keyDirectory: string | null;
  /** Whether the database answers. @throws what it says */
  readonly databaseAnswers: () => Promise<unknown>;
}

const DEFAULT_CHANNEL: Channel = 'dev';

const CHANNEL_DESCRIPTIONS: Readonly<Record<Channel, string>> = {
  dev: 'Every build, for development hosts',
  beta: 'Release candidates, for test hosts',
  stable: 'Releases, for hosts in production',
};

/** What stays as it is for ever under its name. A manifest does not: it can be refreshed. */
const IMMUTABLE = { 'cache-control': 'public, max-age=31536000, immutable' };
const REVALIDATE = { 'cache-control': 'no-cache' };

/** One handler for each row of the route table. */
export function serverHandlers(server: Server): Handlers<typeof SERVER_ROUTES> {
  const { publisher, clock } = server;
  const { store } = publisher;
  return {
    health: async () => ({ json: { status: 'healthy', timestamp: new Date(clock.nowMs()).toISOString() } }),
    ready: async () => {
      const checks = await Promise.all([
        checked(store.log, 'database', server.databaseAnswers),
        checked(store.log, 'releases', async () => {
          if ((await store.files.info(store.directory))?.kind !== 'directory') throw new Error('there is no folder');
          await store.files.list(store.directory);
        }),
      ]);
      const isReady = checks.every(({ ok }) => ok);
      return { status: isReady ? 200 : 503, json: { status: isReady ? 'ready' : 'not_ready', checks } };
    },
    channels: async () => ({ json: CHANNELS.map((name) => ({ name, description: CHANNEL_DESCRIPTIONS[name] })) }),

    latestManifest: async ({ params: { product }, query: { channel = DEFAULT_CHANNEL }, caller }) => {
      const release = await latestRelease(store, product, channel);
      return release ? document(caller, release.manifestBytes) : noRelease({ product, channel });
    },
    latestSigned: async ({ params: { product }, query: { channel = DEFAULT_CHANNEL }, caller }) => {
      const release = await latestRelease(store, product, channel);
      return release ? document(caller, release.envelope) : noRelease({ product, channel });
    },
    releases: async ({ params: { product }, query: { channel } }) => {
      const channels = channel === undefined ? CHANNELS : [channel];
      const lists = await Promise.all(channels.map((one) => listReleases(store, product, one)));
      const all = lists.flat();
      if (lists.length > 1) all.sort((a, b) => b.manifest.release_date.localeCompare(a.manifest.release_date));
      return { json: all.map(summary), headers: REVALIDATE };
    },
    releaseManifest: async ({ params, query: { channel = DEFAULT_CHANNEL }, caller }) => {
      const release = await readRelease(store, { ...params, channel });
      return release ? document(caller, release.manifestBytes) : noRelease({ ...params, channel });
    },
    releaseSigned: async ({ params, query: { channel = DEFAULT_CHANNEL }, caller }) => {
      const release = await readRelease(store, { ...params, channel });
      return release ? document(caller, release.envelope) : noRelease({ ...params, channel });
    },
    artifact: async ({ params: { artifact, ...params }, query: { channel = DEFAULT_CHANNEL }, caller }) => {
      const release = await readRelease(store, { ...params, channel });
      return release ? file(server, caller, release, artifact) : noRelease({ ...params, channel });
    },

    publish: async ({ params: { product }, parts }) => ({ json: await publish(publisher, product, parts) }),
    deleteRelease: async ({ params, query: { channel = DEFAULT_CHANNEL } }) => {
      const ref = { product: params.product, version: params.version, channel };
      const remove = () => removeRelease(store, ref, publisher.random.id());
      if (!(await publisher.exclusive(folderOf(store, ref), remove))) return noRelease(ref);
      store.log.info('release_deleted', ref);
      return { json: { status: 'deleted', ...ref } };
    },

    generateKeys: async () => ({ json: await generate(server) }),
    publicKey: async () => {
      const { signer, keyring } = publisher;
      const keys = keyring.keys.map(({ key_id, public_key }) => ({ key_id, public_key }));
      const own = { public_key: signer?.publicKey ?? null, key_id: signer?.keyId ?? null };
      return { json: { ...own, algorithm: 'ed25519', keys } };
    },
  };
}

/** Not what exactly is wrong: anybody may ask, and the log says it. */
async function checked(
  log: Log,
  name: Ready['checks'][number]['name'],
  look: () => Promise<unknown>,
): Promise<Ready['checks'][number]> {
  try {
    await look();
    return { name, ok: true };
  } catch (error) {
    log.warn('not_ready', { name, ...fieldsOf(error) });
    return { name, ok: false, detail: name === 'database' ? 'it does not answer' : 'the folder cannot be read' };
  }
}

function document(caller: Caller, bytes: Uint8Array): Reply<never> {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const described = { sha256, sizeBytes: bytes.length, type: 'application/json', headers: REVALIDATE };
  return answer(caller.headers, described, async (start, end) => once(bytes.subarray(start, end)));
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function noRelease(members: { product: Product; channel: Channel; version?: string }): Reply<never> {
  const what = members.version === undefined ? 'No releases found' : 'Release not found';
  return { refused: new QxError('NO_RELEASE', what), members };
}

const summary = ({ manifest: { version, channel, release_date, update_type } }: Release) => ({
  version,
  channel,
  release_date,
  update_type,
});

/** Only what the manifest lists, so that a name is never looked for on the disk before somebody signed it. */
async function file(
  { publisher: { store }, ranges }: Server,
  caller: Caller,
  release: Release,
  name: string,
): Promise<Reply<never>> {
  if (name === MANIFEST_NAME) return document(caller, release.manifestBytes);
  if (name === ENVELOPE_NAME) return document(caller, release.envelope);
  const ref = artifactsOf(release.manifest).find(({ artifact }) => artifact === name);
  if (ref === undefined) throw new QxError('NOT_FOUND', `release ${release.manifest.version} has no artifact ${name}`);
  const path = `${folderOf(store, release.manifest)}/${ref.artifact}`;
  const info = await store.files.info(path);
  if (info?.kind !== 'file' || info.sizeBytes !== ref.size_bytes) {
    store.log.warn('artifact_damaged', { path, sizeBytes: info?.sizeBytes ?? null });
    throw new QxError('STATE_INVALID', `${name} is damaged on the server`, {
      next: `qx-release withdraw ${release.manifest.version} --channel ${release.manifest.channel} --product ${release.manifest.product}, and publish it again`,
    });
  }
  const headers = { ...IMMUTABLE, 'content-disposition': `attachment; filename="${ref.artifact}"` };
  const described = { sha256: ref.sha256, sizeBytes: ref.size_bytes, type: typeOf(name), headers };
  return answer(caller.headers, described, (start, end) => ranges.openRange(path, start, end));
}

const TYPES: readonly (readonly [ending: string, type: string])[] = [
  ['.json', 'application/json'],
  ['.zst', 'application/zstd'],
  ['.gz', 'application/gzip'],
];

const typeOf = (name: string): string =>
  TYPES.find(([ending]) => name.endsWith(ending))?.[1] ?? 'application/octet-stream';

async function generate({ publisher: { store }, keyDirectory }: Server) {
  if (keyDirectory === null) {
    throw new QxError('FORBIDDEN', 'only a server started with --dev makes keys', {
      next: 'make them away from the server: qx-release keygen',
    });
  }
  const { privateKey, publicKey } = await generateKeys(store.files, keyDirectory);
  const note = 'Keep the private key secret. Sign with it, and build the public key into the agents as a keyring.';
  return { status: 'generated' as const, private_key: privateKey, public_key: publicKey, note };
}
