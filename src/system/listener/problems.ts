import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { asQxError, type Code, isCode, problem, QxError } from '../../errors.ts';
import type { Route } from '../../format/route.ts';
import type { Denial, Headers } from '../../ports/serving.ts';

/** Everything that is refused or fails leaves as an RFC 9457 problem, whoever noticed it. */

const FRAMEWORK_CODES: Readonly<Record<number, Code>> = {
  400: 'BAD_REQUEST',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  413: 'BODY_TOO_LARGE',
  414: 'BAD_REQUEST',
  415: 'MEDIA_TYPE_UNSUPPORTED',
  431: 'HEADERS_TOO_LARGE',
};

/** What the framework itself refused (bad escape, wrong media type, too large) under one of our codes. */
export function asRefused(error: unknown): unknown {
  if (error instanceof QxError || !(error instanceof Error)) return error;
  const { statusCode, code } = error as Partial<FastifyError>;
  const ours = FRAMEWORK_CODES[statusCode ?? 0];
  if (ours !== undefined) return new QxError(ours, error.message, { cause: error });
  // Node's word for a caller who hung up while his body was read.
  const isAborted = code === 'ECONNRESET' && error.message === 'aborted';
  if (isAborted || code === 'FST_PREMATURE_CLOSE' || /multipart|part terminated/i.test(error.message)) {
    return new QxError('BAD_REQUEST', `the body broke off or is no multipart form: ${error.message}`, { cause: error });
  }
  return error;
}

/** What names files or functions of this machine: for the log, not for the caller. */
export const isUnforeseen = (refused: unknown): boolean => isCode(asQxError(refused), 'INTERNAL', 'IO');

export interface ProblemReply extends Omit<Denial, 'refused'> {
  readonly refused: unknown;
  readonly members?: Headers;
}

const REFUSAL = Symbol('refusal');
const IS_HANDLED = Symbol('isHandled');

/** Kept on the response itself: what fastify refuses before it has a route gets none of the decorators of a request. */
interface Noted extends ServerResponse {
  [REFUSAL]?: QxError;
  [IS_HANDLED]?: boolean;
}

/** What the caller was told instead of an answer, if anything, and whether the handler of a route had seen the request. */
export function refusalOf({ raw }: FastifyReply): { readonly error: QxError; readonly isAnswer: boolean } | null {
  const { [REFUSAL]: error, [IS_HANDLED]: isAnswer = false } = raw as Noted;
  return error === undefined ? null : { error, isAnswer };
}

export function noteHandled({ raw }: FastifyReply): void {
  (raw as Noted)[IS_HANDLED] = true;
}

export function sendProblem(reply: FastifyReply, { refused, members, headers }: ProblemReply): FastifyReply {
  (reply.raw as Noted)[REFUSAL] = asQxError(asRefused(refused));
  const body = problem(asRefused(refused));
  const { dialect } = (reply.request.routeOptions?.config ?? {}) as Pick<Route, 'dialect'>;
  const spoken = dialect === 'fleetlock' ? { kind: body.code.toLowerCase(), value: body.detail } : {};
  return reply
    .code(body.status)
    .headers({ 'cache-control': 'no-store', ...headers })
    .header('content-type', 'application/problem+json')
    .send(Buffer.from(JSON.stringify({ ...body, ...spoken, ...members })));
}

/** For the few bytes of a refusal to be taken: who does not read them hears nothing. */
const LAST_WORDS_MS = 2000;

/** What is no HTTP never becomes a request; it is answered on the bare socket. */
export const refuseNoise =
  (told: (refused: QxError, address: string) => void) =>
  ({ code }: NodeJS.ErrnoException, socket: Socket): void => {
    // Before a handshake is over nothing can be said: what was written would wait for a peer that says nothing, for good.
    const isShaking = socket instanceof TLSSocket && socket.getProtocol() === null;
    if (code === 'ECONNRESET' || !socket.writable || isShaking) return void socket.destroy();
    const refused = noiseAs(code);
    told(refused, socket.remoteAddress ?? 'unknown');
    const answer = problem(refused);
    const body = Buffer.from(JSON.stringify(answer));
    const head = [
      `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}`,
      'Content-Type: application/problem+json',
      `Content-Length: ${body.length}`,
      'Connection: close',
    ];
    const cut = setTimeout(() => socket.destroy(), LAST_WORDS_MS);
    socket.once('close', () => clearTimeout(cut));
    socket.end(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]), () => socket.destroy());
  };

function noiseAs(code: string | undefined): QxError {
  if (code === 'HPE_HEADER_OVERFLOW') return new QxError('HEADERS_TOO_LARGE', 'the header fields are too large');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return new QxError('REQUEST_TIMEOUT', 'the request did not arrive in time');
  return new QxError('BAD_REQUEST', 'this is not a request of HTTP/1.1 that can be read in one way only');
}

const DRAIN_MAX_BYTES = 64 * 1024 * 1024;
const DRAIN_MAX_MS = 10_000;

/**
 * Reads on for a while after a refusal that came before the body was read. Closing at once would reset the connection, and
 * a client that is still sending would never see why it was refused; reading without an end would let it send for ever.
 */
export function drain(request: FastifyRequest): void {
  const { raw } = request;
  if (raw.complete || raw.destroyed) return;
  raw.unpipe();
  const giveUp = setTimeout(() => raw.destroy(), DRAIN_MAX_MS);
  let left = DRAIN_MAX_BYTES;
  raw.on('data', (piece: Buffer) => {
    left -= piece.length;
    if (left < 0) raw.destroy();
  });
  raw.on('close', () => clearTimeout(giveUp));
  raw.resume();
}
