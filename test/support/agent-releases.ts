import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll } from 'vitest';
import { QxError } from '../../src/errors.ts';
import { detach, sealEnvelope } from '../../src/format/envelope.ts';
import type { Component, Manifest } from '../../src/format/manifest.ts';
import type { Http, HttpResponse } from '../../src/ports.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import type { TestImage } from './images.ts';
import { artifactOf, keyringOf, manifestOf, testKey, trusted } from './keys.ts';

/** Signed releases whose bytes say which component of which version they are, and a server that has them in memory. */

export interface Release {
  readonly manifest: Manifest;
  readonly envelope: Uint8Array;
  readonly artifacts: ReadonlyMap<string, Uint8Array>;
}

export interface ReleaseOptions {
  /** Name -> version; each is one of `PLACES`. */
  readonly components?: Readonly<Record<string, string>>;
  /** What single components have besides, or instead. */
  readonly fields?: Readonly<Record<string, Partial<Component>>>;
  readonly image?: TestImage;
  readonly manifest?: Partial<Manifest>;
}

interface Place {
  readonly path: string;
  readonly file: string;
  readonly service: string | null;
  readonly kind: 'file' | 'directory';
}

/** Where the test components live, and what is started anew for them. */
const PLACES: Readonly<Record<string, Place>> = {
  'qx-console': { path: '/data/bin/qx-console', file: 'qx-console', service: 'quantix-console', kind: 'file' },
  'host-ui': { path: '/data/share/host-ui', file: 'host-ui/index.html', service: null, kind: 'directory' },
  'qx-node': { path: '/data/bin/qx-node', file: 'qx-node', service: 'quantix-node', kind: 'file' },
};

const placeOf = (name: string): Place => {
  const place = PLACES[name];
  if (place === undefined) throw new Error(`no test component ${name}`);
  return place;
};

export const contentOf = (name: string, version: string): string => `${name} ${version}`;

const signer = testKey('release');
export const agentKeyring = async () => keyringOf([trusted(await signer)]);

export type MakeRelease = (version: string, options?: ReleaseOptions) => Promise<Release>;

/** Releases for the tests of one file; each component is packed once. */
export function releaseMaker(): MakeRelease {
  const folder = mkdtempSync(join(tmpdir(), 'quantix-releases-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const packed = new Map<string, Promise<Uint8Array>>();
  const bytesOf = (name: string, version: string): Promise<Uint8Array> => {
    const key = `${name}-${version}`;
    const bytes = packed.get(key) ?? pack(join(folder, key), name, version);
    packed.set(key, bytes);
    return bytes;
  };
  return async (version, { components = {}, fields = {}, image, manifest = {} } = {}) => {
    const artifacts = new Map<string, Uint8Array>();
    const listed: Component[] = [];
    for (const [name, componentVersion] of Object.entries(components)) {
      const bytes = await bytesOf(name, componentVersion);
      const { path, service, kind } = placeOf(name);
      const artifact = `${name}.tar.zst`;
      artifacts.set(artifact, bytes);
      const own = { name, version: componentVersion, install_path: path, restart_service: service, kind };
      listed.push({ ...own, ...artifactOf(artifact, bytes), ...fields[name] });
    }
    if (image !== undefined) artifacts.set('system.squashfs', new Uint8Array(await readFile(image.path)));
    const full = image === undefined ? {} : imageFields(image);
    const whole = manifestOf({ version, components: listed, ...full, ...manifest });
    const bytes = new TextEncoder().encode(JSON.stringify(whole));
    const envelope = await sealEnvelope(bytes, [(await signer).signer], '2026-11-01T00:00:00Z');
    return { manifest: whole, envelope, artifacts };
  };
}

const imageFields = ({ sha256, sizeBytes }: TestImage): Partial<Manifest> => ({
  update_type: 'full',
  full_image: { artifact: 'system.squashfs', sha256, size_bytes: sizeBytes, requires_reboot: true },
});

async function pack(folder: string, name: string, version: string): Promise<Uint8Array> {
  const { file } = placeOf(name);
  const path = join(folder, file);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, contentOf(name, version), { mode: 0o755 });
  await packArchive(join(folder, file.split('/')[0] ?? file), join(folder, 'packed.tar.zst'));
  return new Uint8Array(await readFile(join(folder, 'packed.tar.zst')));
}

/** The update server as the agent sees it: the last release that was published is the newest. */
export interface Site extends Http {
  readonly requests: string[];
  publish(...releases: readonly Release[]): void;
  /** Sends these bytes for an artifact from now on. */
  spoil(artifact: string, bytes: Uint8Array): void;
  goDown(isDown: boolean): void;
}

export function memorySite(...releases: readonly Release[]): Site {
  const state = { releases: [...releases], spoilt: new Map<string, Uint8Array>(), isDown: false };
  const requests: string[] = [];
  const answer = (path: string): Uint8Array | undefined => {
    const [, version, name] = /\/releases\/([^/]+)\/(.+)$/.exec(path) ?? [];
    if (version === undefined || name === undefined) return state.releases.at(-1)?.envelope;
    const release = state.releases.findLast(({ manifest }) => manifest.version === version);
    return name === 'manifest/signed' ? release?.envelope : (state.spoilt.get(name) ?? release?.artifacts.get(name));
  };
  return {
    requests,
    publish: (...more) => void state.releases.push(...more),
    spoil: (artifact, bytes) => void state.spoilt.set(artifact, bytes),
    goDown: (isDown) => void Object.assign(state, { isDown }),
    get: async (url, { headers = {}, isEnvelope }) => {
      if (state.isDown) throw new QxError('SERVER_UNREACHABLE', `${url} cannot be reached`);
      const { pathname } = new URL(url);
      requests.push(pathname);
      const bytes = answer(pathname);
      if (bytes === undefined) return reply(404, new Uint8Array());
      return isEnvelope === true ? reply(200, detach(bytes)) : ranged(bytes, headers.range);
    },
  };
}

function ranged(bytes: Uint8Array, range: string | undefined): HttpResponse {
  const start = Number(/^bytes=([0-9]+)-$/.exec(range ?? '')?.[1] ?? 0);
  if (start === 0 || start >= bytes.length) return reply(200, bytes);
  return reply(206, bytes.subarray(start), { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` });
}

const reply = (status: number, bytes: Uint8Array, headers: Readonly<Record<string, string>> = {}): HttpResponse => ({
  status,
  headers: { etag: `"${bytes.length}"`, 'content-length': String(bytes.length), ...headers },
  body: piecesOf(bytes),
});

/** In two pieces, so that a power cut finds half of an artifact. */
async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  const middle = bytes.length >> 1;
  if (middle > 0) yield bytes.subarray(0, middle);
  yield bytes.subarray(middle);
}
