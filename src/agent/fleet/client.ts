import { ERRORS, QxError } from '../../errors.ts';
import { type BodyOf, type ParamsOf, pathOf, type QueryOf, type ResponseOf, type Route } from '../../format/route.ts';
import { checkShape } from '../../format/schema.ts';
import type { Http, HttpRequest, Post } from '../../ports.ts';
import { ANSWER_WITHIN, textOf, wordsOf } from './answer.ts';

/** Asks the server of a fleet by its route table, and believes no more of the answer than its shape. */

export interface FleetServer {
  readonly server: string;
  /** Of a development server, which knows hosts by name. */
  readonly devNode?: string;
  readonly tls?: HttpRequest['tls'];
}

export interface Asked<R extends Route> {
  readonly params?: ParamsOf<R>;
  readonly body?: BodyOf<R>;
  readonly signal?: AbortSignal | undefined;
}

const LIMITS = { ...ANSWER_WITHIN, maxBytes: 4 << 20 };

/** @throws QxError with the code that the server refused it by; SERVER_UNREACHABLE | SERVER_ERROR when it gave no answer */
export async function askFleet<R extends Route>(
  http: Http & Post,
  { server, devNode, tls }: FleetServer,
  route: R,
  { params, body, signal }: Asked<R>,
): Promise<ResponseOf<R>> {
  const url = server + pathOf(route, (params ?? {}) as ParamsOf<R>, {} as QueryOf<R>);
  const request = {
    limits: LIMITS,
    headers: {
      ...(route.method === 'GET' ? {} : { 'content-type': 'application/json' }),
      ...(devNode === undefined ? {} : { 'x-qx-dev-node': devNode }),
    },
    ...(signal === undefined ? {} : { signal }),
    ...(tls === undefined ? {} : { tls }),
  };
  const response =
    route.method === 'GET'
      ? await http.get(url, request)
      : await http.post(url, { ...request, body: JSON.stringify(body ?? {}) });
  const answer = parse(await textOf(response), response.status);
  if (response.status >= 300) throw asRefused(answer, response.status, server);
  return checkShape(route.response, answer, `the answer of ${server}`, 'SERVER_ERROR') as ResponseOf<R>;
}

function parse(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new QxError('SERVER_ERROR', `the server of the fleet answered ${status} and no JSON`, { cause: error });
  }
}

function asRefused(answer: unknown, status: number, server: string): QxError {
  const { code, detail, next } = { ...(answer as { code?: unknown; detail?: unknown; next?: unknown } | null) };
  const known = typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as keyof typeof ERRORS) : null;
  const said = wordsOf(detail) || `${server} answered ${status}`;
  return new QxError(known ?? 'SERVER_ERROR', said, wordsOf(next) === '' ? {} : { next: wordsOf(next) });
}
