import type { FastifySchema } from 'fastify';
import { type TSchema, Type } from 'typebox';
import { ROLES } from '../../format/fleet-routes.ts';
import { OPENED_BY, Problem, type Proof, type Route, type RouteTable, type Who } from '../../format/route.ts';

/** A row of the route table as the schema by which fastify validates and from which @fastify/swagger documents. */

const SCHEMES = {
  publisher: { type: 'http', scheme: 'bearer', description: 'the publish token' },
  'host-admin': { type: 'http', scheme: 'bearer', description: "the host's API token; not needed on the Unix socket" },
  node: { type: 'mutualTLS', description: 'the certificate of an enrolled host' },
  operator: { type: 'http', scheme: 'bearer', description: 'the token of an operator, whose role has to suffice' },
  'control-plane': { type: 'http', scheme: 'bearer', description: 'the token of the control plane' },
  local: { type: 'http', scheme: 'bearer', description: 'the Unix socket of the host' },
} as const;

const isPerson = (proof: Proof): boolean => (ROLES as readonly Proof[]).includes(proof);

const schemesOf = (who: Who): readonly string[] =>
  OPENED_BY[who].map((proof) => (isPerson(proof) ? 'operator' : proof));

/** Of the routes that there are, and no others. */
export const securitySchemes = (routes: RouteTable): Partial<typeof SCHEMES> => {
  const used = new Set(Object.values(routes).flatMap(({ who }) => schemesOf(who)));
  return Object.fromEntries(Object.entries(SCHEMES).filter(([name]) => used.has(name)));
};

const binary = Type.Unsafe<unknown>({ type: 'string', format: 'binary' });
/** For the document only: a streamed body is not there yet when requests are validated. */
export const MULTIPART_BODY: TSchema = Type.Object({ manifest: binary }, { additionalProperties: binary });

const CONTENT_TYPES = {
  json: 'application/json',
  manifest: 'application/json',
  file: 'application/octet-stream',
  text: 'text/plain',
  events: 'text/event-stream',
} as const;

export function schemaOf(name: string, route: Route): FastifySchema {
  const schemes = schemesOf(route.who);
  const answer = {
    description: route.summary,
    content: { [CONTENT_TYPES[route.content]]: { schema: route.response } },
  };
  const failure = { description: 'Refused or failed', content: { 'application/problem+json': { schema: Problem } } };
  return {
    operationId: name,
    summary: route.summary,
    ...(route.params === undefined ? {} : { params: route.params }),
    ...(route.query === undefined ? {} : { querystring: route.query }),
    ...(route.body === undefined ? {} : { body: route.body === 'multipart' ? MULTIPART_BODY : route.body }),
    ...(route.body === 'multipart' ? { consumes: ['multipart/form-data'] } : {}),
    ...(schemes.length === 0 ? {} : { security: schemes.map((scheme) => ({ [scheme]: [] })) }),
    response: { [route.status ?? 200]: answer, default: failure },
  };
}
