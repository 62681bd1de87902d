import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import swagger from '@fastify/swagger';
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchemaValidationError,
  type FastifyServerFactory,
} from 'fastify';
import { IsOptional, type TSchema } from 'typebox';
import { asQxError, QxError } from '../../errors.ts';
import type { Route, RouteTable } from '../../format/route.ts';
import type { Admit, Call, Caller, Handler, Principal, Reply, Service } from '../../ports/serving.ts';
import { isMultipart, JSON_BODY_MAX_BYTES, partsOf, readBodies } from './body.ts';
import { peerCertificate } from './certificate.ts';
import { MULTIPART_BODY, schemaOf, securitySchemes } from './openapi.ts';
import { asRefused, drain, isUnforeseen, noteHandled, refusalOf, refuseNoise, sendProblem } from './problems.ts';

const OPENAPI_PATH = '/api/v1/openapi.json';
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** The route table as a fastify application that is not listening yet. */
export function createApp<T extends RouteTable>(
  service: Service<T>,
  via: Caller['via'],
  serverFactory: FastifyServerFactory,
): FastifyInstance {
  // What never came to a route has no hooks that could tell of it.
  const tellOfNoise = (error: QxError, address: string): void =>
    service.onRefused?.({ error, caller: { via, address }, route: null, isAnswer: false });
  const app = fastify({
    serverFactory,
    logger: false,
    bodyLimit: JSON_BODY_MAX_BYTES,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 200 },
    clientErrorHandler: refuseNoise(tellOfNoise),
    frameworkErrors: (error, request, reply) => {
      tellOfNoise(asQxError(asRefused(error)), request.raw.socket.remoteAddress ?? via);
      return void sendProblem(reply, { refused: error });
    },
  });
  app.setValidatorCompiler((route) => validator(route.schema as TSchema, TypeBoxValidatorCompiler(route)));
  // The replies are typed by the table already; a serializer built from a schema would drop what it does not know.
  app.setSerializerCompiler(() => JSON.stringify);
  app.setSchemaErrorFormatter(([first], part) => new QxError('BAD_REQUEST', `${part}${complaint(first)}`));
  readBodies(app);
  document(app, service);
  watch(app, service, via);
  app.register(async (scope) => {
    for (const [name, route] of Object.entries(service.routes)) {
      addRoute(scope, name, route, service.handlers[name] as Handler<Route>, service.admit, via);
    }
    refuseOtherMethods(scope, Object.values(service.routes));
    const onRequest = async (request: FastifyRequest, reply: FastifyReply) => {
      const admission = await service.admit(service.documentFor, callerOf(request, via));
      return admission !== null && 'refused' in admission ? sendProblem(reply, admission) : undefined;
    };
    // The same bytes for everybody, however many do not read them.
    const made: { document?: Buffer } = {};
    scope.get(OPENAPI_PATH, { schema: { hide: true }, onRequest }, async (request, reply) => {
      made.document ??= Buffer.from(JSON.stringify(app.swagger()));
      return sendBytes(request, reply.type('application/json'), made.document);
    });
  });
  return app;
}

type Validate = ReturnType<typeof TypeBoxValidatorCompiler>;

function validator(schema: TSchema, validate: Validate): Validate {
  if (schema === MULTIPART_BODY) return (value) => ({ value });
  if (!IsOptional(schema)) return validate;
  return (value) => (value === null ? { value: undefined } : validate(value));
}

function complaint(error: FastifySchemaValidationError | undefined): string {
  const where = error?.instancePath ?? '';
  const allowed = error?.params.allowedValues;
  if (Array.isArray(allowed)) return `${where} must be one of ${allowed.join(', ')}`;
  return `${where} ${error?.message ?? 'is not acceptable'}`;
}

function document<T extends RouteTable>(app: FastifyInstance, { title, version, routes }: Service<T>): void {
  // The types know OpenAPI 3.0 only, which has no mutualTLS.
  const components: object = { securitySchemes: securitySchemes(routes) };
  app.register(swagger, { openapi: { openapi: '3.1.0', info: { title, version }, components } });
}

function watch<T extends RouteTable>(app: FastifyInstance, { log, onRefused }: Service<T>, via: Caller['via']): void {
  app.setErrorHandler((error, request, reply) => {
    drain(request);
    // Of a body that is too large: it would close the connection before a client that is still sending has read why.
    reply.removeHeader('connection');
    const refused = asRefused(error);
    if (!isUnforeseen(refused)) return sendProblem(reply, { refused });
    log.warn('request_failed', { path: pathOf(request), error: error instanceof Error ? error.stack : String(error) });
    return sendProblem(reply, { refused: new QxError('INTERNAL', 'see the log', { cause: error }) });
  });
  app.setNotFoundHandler((request, reply) => {
    drain(request);
    return sendProblem(reply, { refused: new QxError('NOT_FOUND', `there is nothing at ${pathOf(request)}`) });
  });
  // What a publisher named .html must not run as a page of this server.
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
    // RFC 9112 3.2: what stands between us and the caller may have believed the other one.
    const hosts = request.raw.rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host');
    if (hosts.length > 1) throw new QxError('BAD_REQUEST', 'the request has more than one Host header');
  });
  app.addHook('onResponse', async (request, reply) => {
    log.info('request', {
      method: request.method,
      path: pathOf(request),
      status: reply.statusCode,
      durationMs: Math.round(reply.elapsedTime),
      address: callerOf(request, via).address,
    });
    const refusal = refusalOf(reply);
    const { operationId: route = null } = (request.routeOptions.schema ?? {}) as { operationId?: string };
    if (refusal !== null) onRefused?.({ ...refusal, caller: callerOf(request, via), route });
  });
}

/** Without the query, which is where people put secrets. */
const pathOf = (request: FastifyRequest): string => request.url.split('?', 1)[0]?.slice(0, 512) ?? '';

const callerOf = (request: FastifyRequest, via: Caller['via']): Caller => ({
  via,
  address: via === 'unix' ? 'unix' : (request.raw.socket.remoteAddress ?? 'unknown'),
  headers: plainHeaders(request.raw),
  queryNames: Object.keys(request.query as object),
  ...peerCertificate(request.raw.socket, Date.now()),
});

/** Without Range where it has no meaning: only GET knows parts of a representation. */
function plainHeaders({ method, headers, url = '' }: IncomingMessage): Caller['headers'] {
  const sent = Object.entries(headers).filter(([name]) => name !== 'range' || method === 'GET');
  const plain = Object.fromEntries(
    sent.map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
  );
  // RFC 9112: a target that names a host itself counts instead of the header.
  return url.startsWith('/') ? plain : { ...plain, host: /^[a-z]+:\/\/([^/?#]*)/i.exec(url)?.[1] ?? '' };
}

const fastifyPath = (path: string): string => path.replace(/\{(\w+)\}/g, ':$1');

function addRoute(
  app: FastifyInstance,
  name: string,
  route: Route,
  handler: Handler<Route>,
  admit: Admit,
  via: Caller['via'],
): void {
  const schema = schemaOf(name, route);
  const principals = new WeakMap<FastifyRequest, Principal>();
  const options = {
    url: fastifyPath(route.path),
    config: { dialect: route.dialect } as object,
    // Before the body: a caller who may not publish must not be able to fill the disk first.
    onRequest: async (request: FastifyRequest, reply: FastifyReply) => {
      const admission = await admit(route.who, callerOf(request, via));
      if (admission !== null && 'refused' in admission) {
        drain(request);
        return sendProblem(reply, admission);
      }
      if (admission !== null) principals.set(request, admission.principal);
      const isExpected = isMultipart(request) === (route.body === 'multipart');
      if (request.headers['content-type'] !== undefined && !isExpected) throw wrongBody(route);
      // Only now is a client that asked first told to send its body.
      if (request.headers.expect !== undefined) reply.raw.writeContinue();
    },
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      noteHandled(reply);
      const answer = await handler({ ...callOf(request, reply, via), principal: principals.get(request) ?? null });
      return send(request, reply, route, answer);
    },
  };
  app.route({ ...options, method: route.method, schema });
  if (route.method === 'GET') app.route({ ...options, method: 'HEAD', schema: { ...schema, hide: true } });
}

const wrongBody = (route: Route) =>
  new QxError(
    'MEDIA_TYPE_UNSUPPORTED',
    `the body of this request must be ${route.body === 'multipart' ? 'multipart/form-data' : 'JSON'}`,
  );

function callOf(request: FastifyRequest, reply: FastifyReply, via: Caller['via']): Omit<Call, 'principal'> {
  const gone = new AbortController();
  reply.raw.on('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new QxError('CANCELLED', 'the caller hung up'));
  });
  const { params, query, body } = request as { params: Call['params']; query: Call['query']; body: Call['body'] };
  return { params, query, body, parts: partsOf(request), caller: callerOf(request, via), signal: gone.signal };
}

async function send(
  request: FastifyRequest,
  reply: FastifyReply,
  route: Route,
  answer: Reply<unknown>,
): Promise<FastifyReply> {
  if ('refused' in answer) {
    drain(request);
    return sendProblem(reply, answer);
  }
  reply.code(answer.status ?? route.status ?? 200).headers(answer.headers ?? {});
  if ('json' in answer) {
    return sendBytes(request, reply.type('application/json'), Buffer.from(JSON.stringify(answer.json)));
  }
  if (!('type' in answer)) return reply.send();
  reply.header('content-type', answer.type);
  if ('bytes' in answer) return reply.send(answer.bytes);
  if ('stream' in answer) return reply.send(Readable.from(answer.stream, { objectMode: false }));
  reply.header('content-length', answer.sizeBytes);
  if (request.method === 'HEAD') return reply.send();
  return reply.send(Readable.from(await answer.open(), { objectMode: false }));
}

const PIECE_BYTES = 64 << 10;

/** A piece at a time: what is encrypted and waits for the peer to read is no more than that. */
function sendBytes({ method }: FastifyRequest, reply: FastifyReply, bytes: Buffer): FastifyReply {
  if (bytes.length <= PIECE_BYTES || method === 'HEAD') return reply.send(bytes);
  return reply.header('content-length', bytes.length).send(Readable.from(piecesOf(bytes), { objectMode: false }));
}

function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

/** 405 with the methods that do work, where fastify would say that the path does not exist. */
function refuseOtherMethods(app: FastifyInstance, routes: readonly Route[]): void {
  for (const path of new Set(routes.map((route) => route.path))) {
    const known = routes.filter((route) => route.path === path).map((route) => route.method as string);
    const allowed = known.includes('GET') ? [...known, 'HEAD'] : known;
    const refuse = async (request: FastifyRequest, reply: FastifyReply) => {
      drain(request);
      const refused = new QxError(
        'METHOD_NOT_ALLOWED',
        `${request.method} is not possible here, only ${allowed.join(', ')}`,
      );
      return sendProblem(reply, { refused, headers: { allow: allowed.join(', ') } });
    };
    const method = METHODS.filter((m) => !allowed.includes(m));
    app.route({ method, url: fastifyPath(path), schema: { hide: true }, onRequest: refuse, handler: refuse });
  }
}
