import type { QxError } from '../errors.ts';
import type { Role } from '../format/fleet-routes.ts';
import type { BodyOf, ParamsOf, QueryOf, ResponseOf, Route, RouteTable, Who } from '../format/route.ts';
import type { Log } from '../ports.ts';

/**
 * What a program that answers requests sees of them. It names a handler for each row of its route table; `system/listener.ts`
 * owns sockets, parsing, validation, problems and the log.
 */

export interface ClientCertificate {
  readonly fingerprint256: string;
  readonly subject: string;
  /** All its names beside the subject, as Node writes them: `URI:urn:qx:node:...`; null when it has none. */
  readonly alternativeNames: string | null;
}

export interface Caller {
  readonly via: 'tcp' | 'unix';
  /** Of the peer; `unix` on the Unix socket. Not taken from any header: those are the caller's own words. */
  readonly address: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Names in the query, without their values. */
  readonly queryNames: readonly string[];
  /** What the peer proved in the TLS handshake and what still holds at this request; null when it proved nothing. */
  readonly certificate: ClientCertificate | null;
  /** Why the certificate that it showed counts for nothing. */
  readonly certificateFault?: string;
  /** One that counts for nothing by this clock yet, and would count for something else: whoever made it knows it again. */
  readonly earlyCertificate?: ClientCertificate;
}

/** Whom a caller has proved to be. */
export type Principal =
  | {
      readonly kind: 'node';
      readonly id: string;
      readonly name: string;
      readonly fingerprint: string;
      /** Which start of the machine speaks, as it says; agents of before do not. */
      readonly boot?: string | undefined;
    }
  | { readonly kind: 'operator'; readonly name: string; readonly role: Role }
  | { readonly kind: 'control-plane' };

/** One part of a multipart body. Its bytes must be read to the end, or given up together with the whole request. */
export interface Part {
  readonly name: string;
  readonly bytes: AsyncIterable<Uint8Array>;
}

export interface Call<R extends Route = Route> {
  readonly params: ParamsOf<R>;
  readonly query: QueryOf<R>;
  readonly body: BodyOf<R>;
  /** Of a multipart body, in the order in which they arrive; empty for other routes. */
  readonly parts: AsyncIterable<Part>;
  readonly caller: Caller;
  /** Null on routes that let everybody in who knows a secret, or simply everybody. */
  readonly principal: Principal | null;
  /** Aborted when the caller hangs up. */
  readonly signal: AbortSignal;
}

export type Headers = Readonly<Record<string, string>>;

interface Head {
  readonly status?: number;
  readonly headers?: Headers;
}

export type Reply<T> =
  | (Head & { readonly json: T })
  | (Head & { readonly bytes: Uint8Array; readonly type: string })
  | (Head & {
      readonly sizeBytes: number;
      readonly type: string;
      /** Opens what is sent before the first byte goes out; not called when only the head is asked for. */
      readonly open: () => Promise<AsyncIterable<Uint8Array>>;
    })
  /** Until it ends or the caller hangs up. */
  | (Head & { readonly stream: AsyncIterable<Uint8Array>; readonly type: string })
  | (Head & { readonly status: 304 })
  /** A refusal with more to say than its error: members of the problem document, or headers. */
  | { readonly refused: QxError; readonly members?: Headers; readonly headers?: Headers };

export type Handler<R extends Route> = (call: Call<R>) => Promise<Reply<ResponseOf<R>>>;
export type Handlers<T extends RouteTable> = { readonly [Name in keyof T]: Handler<T[Name]> };

/** What a caller is told who is not let in. */
export interface Denial {
  readonly refused: QxError;
  readonly headers?: Headers;
}

export interface Admission {
  readonly principal: Principal;
}

/** Decides before a byte of the body is read; null lets the caller in as nobody in particular. */
export type Admit = (who: Who, caller: Caller) => Denial | Admission | null | Promise<Denial | Admission | null>;

/** What is served: a route table, and what answers it. */
export interface Service<T extends RouteTable> {
  readonly title: string;
  readonly version: string;
  readonly routes: T;
  readonly handlers: Handlers<T>;
  readonly admit: Admit;
  /** Who may read the OpenAPI document: it names the version of the program. */
  readonly documentFor: Who;
  /** Told of every refusal once it was answered; `route` is null where there is none, `isAnswer` when its handler refused. */
  readonly onRefused?: (refusal: RefusedCall) => void;
  readonly log: Log;
}

export interface RefusedCall {
  readonly error: QxError;
  readonly caller: Pick<Caller, 'via' | 'address'>;
  readonly route: string | null;
  readonly isAnswer: boolean;
}

export interface Listening {
  /** The port that was bound; 0 for a Unix socket. */
  readonly port: number;
  /** Stops accepting, lets requests finish for `graceMs`, then cuts what is left. */
  close(graceMs?: number): Promise<void>;
  /** Other certificates from the next connection on. @throws QxError CONFIG_INVALID, and those of before go on */
  renew(tls: { readonly cert: Uint8Array; readonly key: Uint8Array; readonly clientCa?: Uint8Array }): void;
}

/** Large files, a piece at a time. */
export interface Ranges {
  /**
   * Bytes `[start, end)` of a regular file, which is open when this resolves. Never follows a final symlink. With `buffers`, so
   * many are used in turn: a piece is then valid until that many more were asked for, and otherwise for good.
   */
  openRange(path: string, start: number, end: number, buffers?: number): Promise<AsyncIterable<Uint8Array>>;
}

/** Of a listener with TLS. */
export interface CertificateState {
  /** When the one in use is over; null where that cannot be told. */
  readonly notAfterMs: number | null;
  /** In two weeks, or it is over. */
  readonly isSoonOver: boolean;
  /** Why newer files are not taken. */
  readonly fault: string | null;
}
