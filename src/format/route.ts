import { type Static, type TObject, type TSchema, Type } from 'typebox';

/**
 * A route as data. The server that answers it, the clients that call it and the OpenAPI document read the same row, so that
 * none of them can drift from the others.
 */

/**
 * What a caller may be. `publisher`: holds the publish token. `local`: any user of this machine, over the Unix socket.
 * `host-admin`: the administrator of the host, over the Unix socket or with the host's API token. `node`: an enrolled host, by
 * its certificate. `viewer`, `operator`, `admin`: people of the fleet, by their token, each of them also the ones before.
 * `control-plane`: what moves VMs, by its token.
 */
export type Proof = 'publisher' | 'local' | 'host-admin' | 'node' | 'control-plane' | 'viewer' | 'operator' | 'admin';

/** Who may call, and what he has to be for it: any one of these. `enrolling` is open, but over TLS. */
export const OPENED_BY = {
  open: [],
  enrolling: [],
  publisher: ['publisher'],
  local: ['local'],
  'host-admin': ['host-admin'],
  node: ['node'],
  'node-or-viewer': ['node', 'viewer'],
  'node-or-operator': ['node', 'operator'],
  'node-or-control-plane': ['node', 'control-plane'],
  viewer: ['viewer'],
  operator: ['operator'],
  admin: ['admin'],
} as const satisfies Readonly<Record<string, readonly Proof[]>>;
export type Who = keyof typeof OPENED_BY;

/**
 * `json` is described by the response schema, and so is the data of each of `events`; `manifest` and `file` are bytes that are passed
 * on exactly as they are.
 */
export type Content = 'json' | 'manifest' | 'file' | 'text' | 'events';

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With `{name}` for each parameter, as the documents of the API write it. */
  readonly path: string;
  readonly who: Who;
  readonly summary: string;
  readonly params?: TObject;
  readonly query?: TObject;
  /** `multipart` is read as a stream of parts; a schema is a JSON body of at most 64 KiB. */
  readonly body?: TSchema | 'multipart';
  /** `fleetlock`: as that protocol has it, refusals name `kind` and `value` too, and curl's own content type is taken for JSON. */
  readonly dialect?: 'fleetlock';
  readonly content: Content;
  readonly response: TSchema;
  /** Of the answer when all went well; 200 unless said. */
  readonly status?: number;
}

export type RouteTable = Readonly<Record<string, Route>>;

type StaticOr<T, Otherwise> = T extends TSchema ? Static<T> : Otherwise;
export type ParamsOf<R extends Route> = StaticOr<R['params'], Record<never, never>>;
export type QueryOf<R extends Route> = StaticOr<R['query'], Record<never, never>>;
export type BodyOf<R extends Route> = StaticOr<R['body'], undefined>;
export type ResponseOf<R extends Route> = Static<R['response']>;

/** RFC 9457, as `errors.ts` builds it: the answer of every route when something was refused or failed. */
export const Problem = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String({ description: 'what was refused, and by which check' }),
  code: Type.String({ description: 'stable: alert on this' }),
  error: Type.String({ description: 'the same as detail, where the first clients look for it' }),
  next: Type.Optional(Type.String({ description: 'what to do about it' })),
});

/** The path of a call, parameters and query filled in and escaped: what a client appends to the address of the server. */
export function pathOf<R extends Route>(route: R, params: ParamsOf<R>, query: QueryOf<R>): string {
  const values = params as Readonly<Record<string, string>>;
  const path = route.path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(values[name])));
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined);
  const search = new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]));
  return pairs.length === 0 ? path : `${path}?${search}`;
}
