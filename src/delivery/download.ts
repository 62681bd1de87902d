import { createHash, type Hash } from 'node:crypto';
import { asQxError, type Code, ERRORS, QxError } from '../errors.ts';
import type { ArtifactRef } from '../format/manifest.ts';
import type { Clock, Files, Http, HttpResponse, OpenFile } from '../ports.ts';
import { type Attempt, done, later, never } from './attempts.ts';
import {
  discard,
  foreignError,
  isEncoded,
  PLAIN_BYTES,
  retryAfterMs,
  statusError,
  strongEtag,
  type WaitLimits,
} from './source.ts';

/**
 * One attempt to get the rest of one artifact from one server into its `.part` file. What is there already is only a hope:
 * neither its length nor what the server says about ranges is trusted, the hash of the whole file decides in the end.
 */

export interface Part {
  readonly artifact: ArtifactRef;
  readonly partPath: string;
  /** Holds the strong ETag under which the part was begun. */
  readonly etagPath: string;
}

export interface DownloadPorts {
  readonly http: Http;
  readonly files: Files;
  readonly clock: Clock;
}

export interface Transfer {
  readonly url: string;
  readonly part: Part;
  /** How much of the part is built upon: all of it, or nothing. */
  readonly heldBytes: number;
  readonly limits: WaitLimits;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (doneBytes: number) => void;
}

/**
 * `done` when the part is as long as was signed, with the SHA-256 of its bytes if all of them came just now; `restart` asks for
 * the same again without resuming.
 */
export type TransferResult = Attempt<string | null> | { readonly kind: 'restart'; readonly error: QxError };

/**
 * What came faster comes again as fast, so nobody waits until it is on the disk: an image is usually on its slot, and its
 * download gone, before the kernel would write it back. What was lost to a power cut is noticed, the file is hashed before use.
 */
const QUICK_MS = 20_000;
const MAX_ETAG_BYTES = 300;

export async function transfer(ports: DownloadPorts, request: Transfer): Promise<TransferResult> {
  const { part, heldBytes } = request;
  if (heldBytes === part.artifact.size_bytes) return done(null);
  const etag = heldBytes === 0 ? null : await readEtag(ports.files, part);
  try {
    const response = await askFor(ports, request, etag);
    try {
      const refused = judgeResponse(ports, request, response, etag);
      if (refused !== null) return refused;
      return await receive(ports, request, response, response.status === 206 ? heldBytes : 0);
    } finally {
      await discard(response);
    }
  } catch (error) {
    return failed(error);
  }
}

/** Bytes of the part that may be built upon; anything that is no plain file, or too long, is taken away. */
export async function usableBytes(files: Files, { artifact, partPath }: Part): Promise<number> {
  const info = await files.info(partPath);
  if (info === null) return 0;
  if (info.kind === 'file' && info.sizeBytes <= artifact.size_bytes) return info.sizeBytes;
  await files.remove(partPath);
  return 0;
}

async function readEtag(files: Files, { etagPath }: Part): Promise<string | null> {
  const info = await files.info(etagPath);
  if (info?.kind !== 'file' || info.sizeBytes > MAX_ETAG_BYTES) return null;
  const bytes = await files.read(etagPath, MAX_ETAG_BYTES);
  return bytes === null ? null : strongEtag(new TextDecoder().decode(bytes));
}

function askFor({ http }: DownloadPorts, request: Transfer, etag: string | null): Promise<HttpResponse> {
  const { url, part, heldBytes, limits, signal } = request;
  const range = heldBytes === 0 ? {} : { range: `bytes=${heldBytes}-` };
  return http.get(url, {
    headers: { ...PLAIN_BYTES, ...range, ...(etag === null ? {} : { 'if-range': etag }) },
    // A server that ignores the range sends the file from its start.
    limits: { ...limits, maxBytes: part.artifact.size_bytes },
    ...(signal === undefined ? {} : { signal }),
  });
}

function judgeResponse(
  { clock }: DownloadPorts,
  { url, part, heldBytes }: Transfer,
  response: HttpResponse,
  etag: string | null,
): TransferResult | null {
  const { status, headers } = response;
  const foreign = foreignError(response, url);
  if (foreign !== null) return later(foreign);
  if (isEncoded(response)) return never(statusError(response, url));
  if (status === 200) return sizeRefusal(url, headers['content-length'], part.artifact.size_bytes);
  const restart = (what: string): TransferResult => ({
    kind: 'restart',
    error: new QxError('SERVER_ERROR', `${url} ${what}`),
  });
  if (status === 206) {
    if (heldBytes === 0 || !isRangeFrom(headers['content-range'], heldBytes, part.artifact.size_bytes)) {
      return restart('sent another range than was asked for');
    }
    const isOther = etag !== null && headers.etag !== undefined && headers.etag !== etag;
    return isOther ? restart('sent a range of another file') : null;
  }
  if (status === 416 && heldBytes > 0) return restart('has no bytes where the rest of the file should be');
  const error = statusError(response, url);
  return ERRORS[error.code].retry ? later(error, retryAfterMs(response, clock.nowMs())) : never(error);
}

function sizeRefusal(url: string, contentLength: string | undefined, sizeBytes: number): TransferResult | null {
  if (contentLength === undefined || contentLength === String(sizeBytes)) return null;
  return never(
    new QxError('SIZE_MISMATCH', `${url} has ${contentLength.slice(0, 20)} bytes, ${sizeBytes} were signed`),
  );
}

/** Whatever the end of the range, bytes that are then still missing are asked for again. */
function isRangeFrom(header: string | undefined, startBytes: number, sizeBytes: number): boolean {
  const match = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15}|\*)$/.exec(header ?? '');
  if (match === null) return false;
  const [, start, end, total] = match;
  const isWithin = Number(end) >= startBytes && Number(end) < sizeBytes;
  return Number(start) === startBytes && isWithin && (total === '*' || Number(total) === sizeBytes);
}

async function receive(
  { files, clock }: DownloadPorts,
  request: Transfer,
  response: HttpResponse,
  fromBytes: number,
): Promise<TransferResult> {
  const { url, part } = request;
  const { size_bytes: sizeBytes } = part.artifact;
  const place = await placeFor(files, part, fromBytes);
  const file = await openPart(files, place, response, fromBytes);
  const startedMs = clock.monotonicMs();
  const isCheap = () => progress.atBytes === sizeBytes && clock.monotonicMs() - startedMs < QUICK_MS;
  const progress: Received = { atBytes: fromBytes, hash: fromBytes === 0 ? createHash('sha256') : null };
  try {
    await append(file, request, response, progress).finally(() => (isCheap() ? undefined : file.sync()));
  } catch (error) {
    return failed(error);
  } finally {
    await file.close();
    await settle(files, part, place, progress.atBytes);
  }
  const { atBytes, hash } = progress;
  if (atBytes === sizeBytes) return done(hash?.digest('hex') ?? null);
  if (response.status === 200 && response.headers['transfer-encoding'] === 'chunked') {
    return never(new QxError('SIZE_MISMATCH', `${url} has ${atBytes} bytes, ${sizeBytes} were signed`));
  }
  // Where nothing tells the end, a connection that broke looks the same: no judgement about the file rests on it.
  return later(new QxError('SERVER_UNREACHABLE', `${url} broke off after ${atBytes} of ${sizeBytes} bytes`));
}

type Place = Pick<Part, 'partPath' | 'etagPath'>;

/**
 * A whole file that comes although a part is held, from a server that knows no ranges or from somebody in its place, is written
 * beside that part as long as there is room for both.
 */
async function placeFor(files: Files, { artifact, partPath, etagPath }: Part, fromBytes: number): Promise<Place> {
  if (fromBytes > 0 || ((await files.info(partPath))?.sizeBytes ?? 0) === 0) return { partPath, etagPath };
  const freeBytes = await files.freeBytes(partPath.slice(0, partPath.lastIndexOf('/')) || '/');
  if (freeBytes < artifact.size_bytes) return { partPath, etagPath };
  return { partPath: `${partPath}.new`, etagPath: `${etagPath}.new` };
}

/** The longer one stays: what nobody vouches for takes nothing away, and a line that breaks again and again moves on. */
async function settle(files: Files, part: Part, place: Place, atBytes: number): Promise<void> {
  if (place.partPath === part.partPath) return;
  const heldBytes = (await files.info(part.partPath))?.sizeBytes ?? 0;
  if (atBytes <= heldBytes) {
    await files.remove(place.partPath);
    return files.remove(place.etagPath);
  }
  await files.remove(part.etagPath);
  await files.rename(place.partPath, part.partPath);
  if ((await files.info(place.etagPath)) !== null) await files.rename(place.etagPath, part.etagPath);
}

async function openPart(files: Files, part: Place, response: HttpResponse, fromBytes: number): Promise<OpenFile> {
  if (fromBytes > 0) return files.openPart(part.partPath, fromBytes);
  // Before the part is cut to nothing: an ETag must never stand beside bytes of another file.
  await files.remove(part.etagPath);
  const etag = strongEtag(response.headers.etag);
  if (etag !== null) await files.writeAtomic(part.etagPath, new TextEncoder().encode(etag), 0o600);
  return files.openPart(part.partPath, 0);
}

interface Received {
  atBytes: number;
  /** Null where the first bytes were there before. */
  readonly hash: Hash | null;
}

/** One write behind: while the disk takes a chunk, the next one is received and hashed. */
async function append(file: OpenFile, request: Transfer, response: HttpResponse, progress: Received): Promise<void> {
  const { url, part, onBytes } = request;
  const behind = { write: Promise.resolve() };
  try {
    for await (const chunk of response.body) {
      if (progress.atBytes + chunk.length > part.artifact.size_bytes) {
        throw new QxError(
          'RESPONSE_TOO_LARGE',
          `${url} sent more than the ${part.artifact.size_bytes} bytes that were signed`,
        );
      }
      progress.hash?.update(chunk);
      await behind.write;
      behind.write = file.append(chunk);
      // Told by the next chunk, or at the end.
      behind.write.catch(() => undefined);
      progress.atBytes += chunk.length;
      onBytes(progress.atBytes);
    }
  } finally {
    await behind.write;
  }
}

const OURS: ReadonlySet<Code> = new Set<Code>(['CANCELLED', 'NO_SPACE', 'IO']);

/** What is wrong on this side (disk full, cancelled) ends everything; what is wrong over there is that server's matter. */
function failed(thrown: unknown): TransferResult {
  const error = asQxError(thrown);
  if (error.code === 'INTERNAL') throw thrown;
  if (OURS.has(error.code)) throw error;
  return ERRORS[error.code].retry ? later(error) : never(error);
}
