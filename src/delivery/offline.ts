import { asQxError, ERRORS, QxError } from '../errors.ts';
import type { SignedManifest } from '../format/detached.ts';
import { detach, ENVELOPE_NAME, openEnvelope } from '../format/envelope.ts';
import type { Keyring } from '../format/keyring.ts';
import { artifactsOf } from '../format/manifest.ts';
import type { BundleEntry, OpenBundle } from '../ports/bundle.ts';
import type { Http, HttpLimits } from '../ports.ts';
import { gather } from './gather.ts';
import { artifactUrl, envelopeUrl, type Source, type SourceConfig, sourceOf } from './source.ts';

/**
 * A bundle in the place of an update server: it answers the addresses that a server would be asked, and nothing behind them
 * can tell the difference. So a release on a stick is trusted, staged and hashed by the very code that does it for one from
 * the network, and there is no second way into a host.
 */

/** Resolves nowhere (RFC 6761): a request that missed the bundle would reach nobody. */
export const BUNDLE_URL = 'http://bundle.invalid';

/** The source of a host that asks a bundle instead of its servers. */
export const offlineSource = ({ product, channel }: Pick<SourceConfig, 'product' | 'channel'>): Source =>
  sourceOf({ serverUrl: BUNDLE_URL, mirrors: [], product, channel });

export interface BundledRelease extends SignedManifest {
  readonly envelope: Uint8Array;
}

/**
 * The release in a bundle, once its signatures are checked and everything that it speaks of is there.
 * @throws QxError of the envelope's check that failed, ARTIFACT_MISSING | ARTIFACT_UNLISTED | SIZE_MISMATCH
 */
export async function readBundle(bundle: OpenBundle, keyring: Keyring): Promise<BundledRelease> {
  const envelope = await readEnvelope(bundle);
  const signed = await openEnvelope(envelope, keyring);
  checkContents(bundle, signed);
  return { ...signed, envelope };
}

/** @throws QxError ARTIFACT_MISSING | ARTIFACT_UNLISTED | SIZE_MISMATCH; an envelope that is not trusted is left to who asks for it */
export async function offlineHttp(bundle: OpenBundle, source: Source, keyring: Keyring): Promise<Http> {
  // Kept: what is judged here and what is trusted later are the same bytes, whatever happens to the file meanwhile.
  const envelope = await readEnvelope(bundle);
  const signed = await trusted(envelope, keyring);
  if (signed !== null) checkContents(bundle, signed);
  const answers = answersOf(bundle, source, envelope, signed);
  return {
    get: async (url, { headers: asked = {}, limits, signal, isEnvelope }) => {
      const found = answers.get(url);
      if (found === undefined)
        return { status: 404, headers: { 'content-length': '0' }, body: bounded(nothing(), limits) };
      const { status, start, more } = rangeOf(asked, found.sizeBytes);
      const length = status === 416 ? 0 : found.sizeBytes - start;
      const body = bounded(length === 0 ? nothing() : found.read(start), limits, signal);
      const headers = { 'content-length': String(length), ...more };
      return { status, headers, body: isEnvelope === true ? detached(body) : body };
    },
  };
}

async function trusted(envelope: Uint8Array, keyring: Keyring): Promise<SignedManifest | null> {
  try {
    return await openEnvelope(envelope, keyring);
  } catch (error) {
    if (ERRORS[asQxError(error).code].exit === 'verification') return null;
    throw error;
  }
}

const readEnvelope = (bundle: OpenBundle): Promise<Uint8Array> => gather(bundle.read(ENVELOPE_NAME, 0));

/** Before anything is begun: what would be missing in the middle of an update is missing now. */
function checkContents({ kind, entries }: OpenBundle, { manifest }: SignedManifest): void {
  const artifacts = artifactsOf(manifest);
  const sizes = new Map(entries.map(({ name, sizeBytes }) => [name, sizeBytes]));
  for (const { artifact, size_bytes } of artifacts) {
    const sizeBytes = sizes.get(artifact);
    if (sizeBytes === undefined) throw refused('ARTIFACT_MISSING', `${artifact} is not in the bundle of its release`);
    if (sizeBytes !== size_bytes) {
      throw refused('SIZE_MISMATCH', `${artifact} has ${sizeBytes} bytes in the bundle, ${size_bytes} were signed`);
    }
  }
  const listed = new Set([ENVELOPE_NAME, ...artifacts.map(({ artifact }) => artifact)]);
  const stranger = kind === 'file' ? entries.find(({ name }) => !listed.has(name)) : undefined;
  if (stranger !== undefined) {
    throw refused('ARTIFACT_UNLISTED', `the bundle holds ${stranger.name}, of which its release does not speak`);
  }
}

const refused = (code: 'ARTIFACT_MISSING' | 'ARTIFACT_UNLISTED' | 'SIZE_MISMATCH', detail: string): QxError =>
  new QxError(code, detail, { next: 'make the bundle again: qx-release bundle' });

interface Answer {
  readonly sizeBytes: number;
  read(start: number): AsyncIterable<Uint8Array>;
}

function answersOf(
  bundle: OpenBundle,
  source: Source,
  envelope: Uint8Array,
  signed: SignedManifest | null,
): ReadonlyMap<string, Answer> {
  const document: Answer = { sizeBytes: envelope.length, read: (start) => once(envelope.subarray(start)) };
  const answers = new Map([[envelopeUrl(BUNDLE_URL, source), document]]);
  // Nothing that an envelope says is an address, unless somebody trusted has said it.
  if (signed === null) return answers;
  const { version } = signed.manifest;
  answers.set(envelopeUrl(BUNDLE_URL, source, version), document);
  const sizes = new Map(bundle.entries.map(({ name, sizeBytes }: BundleEntry) => [name, sizeBytes]));
  for (const { artifact } of artifactsOf(signed.manifest)) {
    answers.set(artifactUrl(BUNDLE_URL, source, version, artifact), {
      sizeBytes: sizes.get(artifact) ?? 0,
      read: (start) => bundle.read(artifact, start),
    });
  }
  return answers;
}

interface Range {
  readonly status: 200 | 206 | 416;
  readonly start: number;
  readonly more: Readonly<Record<string, string>>;
}

function rangeOf(headers: Readonly<Record<string, string>>, sizeBytes: number): Range {
  const start = /^bytes=([0-9]{1,15})-$/.exec(headers.range ?? '')?.[1];
  // A bundle has no ETag that the condition could hold against.
  if (start === undefined || headers['if-range'] !== undefined) return { status: 200, start: 0, more: {} };
  const from = Number(start);
  if (from >= sizeBytes) return { status: 416, start: 0, more: { 'content-range': `bytes */${sizeBytes}` } };
  return { status: 206, start: from, more: { 'content-range': `bytes ${from}-${sizeBytes - 1}/${sizeBytes}` } };
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* detached(envelope: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield detach(await gather(envelope));
}

async function* bounded(
  chunks: AsyncIterable<Uint8Array>,
  { maxBytes }: Pick<HttpLimits, 'maxBytes'>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let totalBytes = 0;
  for await (const chunk of chunks) {
    if (signal?.aborted === true) throw new QxError('CANCELLED', 'reading the bundle was cancelled');
    totalBytes += chunk.length;
    if (totalBytes > maxBytes) {
      throw new QxError('RESPONSE_TOO_LARGE', `the bundle has more than the expected ${maxBytes} bytes`);
    }
    yield chunk;
  }
}
