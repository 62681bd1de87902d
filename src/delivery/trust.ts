import { type Refusal, refusal } from '../core/plan.ts';
import type { RetryPolicy } from '../core/retry.ts';
import { judgeRelease } from '../core/trust.ts';
import { asQxError, ERRORS, type QxError } from '../errors.ts';
import { openDetached, type SignedManifest } from '../format/detached.ts';
import type { Memory } from '../format/journal.ts';
import { DOCUMENT_LIMITS } from '../format/json.ts';
import type { Keyring } from '../format/keyring.ts';
import type { Clock, Http, Log, Random } from '../ports.ts';
import { type Attempt, askEach, done, later, never } from './attempts.ts';
import { gather } from './gather.ts';
import {
  discard,
  envelopeUrl,
  foreignError,
  isEncoded,
  PLAIN_BYTES,
  retryAfterMs,
  type Source,
  statusError,
  strongEtag,
  WAIT_LIMITS,
  type WaitLimits,
} from './source.ts';

/**
 * One question: the trusted manifest for this product and channel (or this version of it), or a refusal. Nothing else may
 * know how it was answered, and nothing on disk changes by asking.
 */

/** A release that was trusted before, to be asked about again without sending it again. */
export interface KnownRelease {
  readonly etag: string;
  readonly detached: Uint8Array;
}

export interface TrustedRelease extends SignedManifest {
  readonly kind: 'release';
  /** Give it back with the next question; null when the server sent no strong ETag. */
  readonly known: KnownRelease | null;
  /** The server said that it has nothing newer than what was known. */
  readonly isUnchanged: boolean;
}

export interface TrustPorts {
  readonly http: Http;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface TrustRequest {
  readonly source: Source;
  readonly keyring: Keyring;
  readonly memory: Memory;
  readonly installedVersion: string;
  readonly compatible: readonly string[];
  readonly buildDateMs: number;
  readonly isRoot: boolean;
  readonly allowDowngrade?: boolean;
  /** This version; the newest of the channel when it is not said. */
  readonly version?: string;
  readonly known?: KnownRelease | null;
  readonly signal?: AbortSignal;
  readonly limits?: WaitLimits;
  readonly policy?: RetryPolicy;
}

/** Short: whoever asks for a manifest asks again at the next check. */
const ASK_POLICY: RetryPolicy = { maxAttempts: 4, firstDelayMs: 1_000, maxDelayMs: 5_000, maxRetryAfterMs: 10_000 };

/** @throws QxError when no server answered, or on CANCELLED; what was answered but is not trusted is a refusal */
export async function trustedRelease(ports: TrustPorts, request: TrustRequest): Promise<TrustedRelease | Refusal> {
  const { product, channel } = request.source;
  let version = request.version;
  const refuse = (refused: Refusal): Refusal => {
    const { code, detail } = refused;
    ports.log.warn('release_refused', {
      code,
      detail,
      product,
      channel,
      ...(version === undefined ? {} : { version }),
    });
    return refused;
  };
  try {
    const answer = await fetchEnvelope(ports, request);
    if (answer === null) return refuse(noRelease(request));
    const signed = await openDetached(answer.detached, request.keyring);
    version = signed.manifest.version;
    const refused = await judge(ports, request, signed);
    if (refused !== null) return refuse(refused);
    const known = answer.etag === null ? null : { etag: answer.etag, detached: answer.detached };
    return { kind: 'release', ...signed, known, isUnchanged: answer.isUnchanged };
  } catch (error) {
    const { code, message, next } = asQxError(error);
    if (ERRORS[code].exit !== 'verification') {
      if (code !== 'CANCELLED') ports.log.warn('release_unavailable', { code, detail: message, product, channel });
      throw error;
    }
    return refuse(refusal(code, message, next));
  }
}

async function judge(
  { clock }: TrustPorts,
  request: TrustRequest,
  { manifest }: SignedManifest,
): Promise<Refusal | null> {
  const { source, memory, keyring, installedVersion, compatible, buildDateMs, isRoot, version } = request;
  const { product, channel } = source;
  return judgeRelease({
    manifest,
    memory,
    host: { installedVersion, compatible },
    keyringEpoch: keyring.epoch,
    clock: { nowMs: clock.nowMs(), isSynchronised: await clock.isSynchronised(), buildDateMs },
    want: { product, channel, ...(version === undefined ? {} : { version }) },
    options: { allowDowngrade: request.allowDowngrade === true, isRoot },
  });
}

function noRelease({ source: { product, channel }, version }: TrustRequest): Refusal {
  const what = version === undefined ? 'no release' : `no release ${version}`;
  return refusal('NO_RELEASE', `the server has ${what} of ${product} in channel ${channel}`);
}

interface Answer {
  /** The envelope, taken apart where it was received: nothing of it is read here before its signatures are checked. */
  readonly detached: Uint8Array;
  readonly etag: string | null;
  readonly isUnchanged: boolean;
}

/** Null when the server has no such release. Mirrors stand in for a server that is down, not for one that says something else. */
function fetchEnvelope(ports: TrustPorts, request: TrustRequest): Promise<Answer | null> {
  const { source, policy = ASK_POLICY, signal } = request;
  return askEach(ports, { bases: source.bases, policy, signal }, async (base) => {
    try {
      return await ask(ports, envelopeUrl(base, source, request.version), request);
    } catch (error) {
      return attemptOf(asQxError(error));
    }
  });
}

function attemptOf(error: QxError): Attempt<never> {
  if (error.code === 'CANCELLED') throw error;
  return ERRORS[error.code].retry ? later(error) : never(error);
}

async function ask({ http, clock }: TrustPorts, url: string, request: TrustRequest): Promise<Attempt<Answer | null>> {
  const { known = null, limits = WAIT_LIMITS, signal } = request;
  const response = await http.get(url, {
    headers: { ...PLAIN_BYTES, ...(known === null ? {} : { 'if-none-match': known.etag }) },
    limits: { ...limits, maxBytes: DOCUMENT_LIMITS.maxBytes },
    isEnvelope: true,
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.status === 200 && !isEncoded(response) && foreignError(response, url) === null) {
    const detached = await gather(response.body);
    return done({ detached, etag: strongEtag(response.headers.etag), isUnchanged: false });
  }
  await discard(response);
  // What was known is judged anew by the caller: a release expires, also while the server says that nothing changed.
  if (response.status === 304 && known !== null) return done({ ...known, isUnchanged: true });
  if (response.status === 404 || response.status === 410) return done(null);
  const error = statusError(response, url);
  return ERRORS[error.code].retry ? later(error, retryAfterMs(response, clock.nowMs())) : never(error);
}
