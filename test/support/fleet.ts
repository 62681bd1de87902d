import { type RequestOptions as HttpOptions, request as httpRequest } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { type BodyOf, type ParamsOf, pathOf, type QueryOf, type Route } from '../../src/format/route.ts';
import type { NodeAuthority } from '../../src/ports/authority.ts';
import { openServer } from '../../src/server/open.ts';
import { type Environment, readSettings } from '../../src/server/settings.ts';
import type { Store, Tables } from '../../src/server/store.ts';
import { openAuthority } from '../../src/system/authority.ts';
import { hostRandom } from '../../src/system/clock.ts';
import { openDatabase } from '../../src/system/database.ts';
import { hostFiles } from '../../src/system/files.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { listenTcp, listenUnix } from '../../src/system/listener.ts';
import { hostRanges } from '../../src/system/ranges.ts';
import { authority, type Certificate } from './certificates.ts';
import { fakeClock, recordedLog } from './fakes.ts';
import { type HostKey, hostKey } from './node-keys.ts';
import { temporaryFolder } from './temp.ts';

/** A whole update server within this process, with TLS and its Unix socket, on a state of its own. */

const site = await authority('site');
export const SITE = { ca: site.cert, ...(await site.issue('127.0.0.1')) };
export const CONTROL_PLANE_TOKEN = 'control-plane-token-of-more-than-32-bytes';
export const PUBLISH_TOKEN = 'publish-token-of-more-than-32-bytes-0001';

export interface Answer {
  readonly status: number;
  /** Of the JSON body. */
  readonly json: Record<string, unknown> & { code?: string };
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** What a caller shows of himself. */
export interface As {
  readonly token?: string;
  readonly certificate?: Certificate;
  /** Of connections that are kept open. */
  readonly agent?: Agent;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Asked<R extends Route> {
  readonly params?: ParamsOf<R>;
  readonly body?: BodyOf<R> | object;
}

export interface FleetBench {
  readonly port: number;
  readonly socket: string;
  readonly folder: string;
  readonly store: Store;
  readonly authority: NodeAuthority;
  readonly log: ReturnType<typeof recordedLog>;
  /** How far the clock of the server is ahead of the machine's. */
  readonly clock: { aheadMs: number };
  readonly origin: string;
  call<R extends Route>(as: As, route: R, asked?: Asked<R>): Promise<Answer>;
  /** Over the Unix socket. */
  root<R extends Route>(route: R, asked?: Asked<R>): Promise<Answer>;
  raw(as: As, method: string, path: string, body?: string | Buffer): Promise<Answer>;
}

interface BenchOptions {
  readonly url: string;
  readonly isDev?: boolean;
  readonly newAuthority?: string;
  readonly hasTls?: boolean;
  readonly environment?: Environment;
  /** What a server does by itself goes on: the control plane is told, what is due is done. */
  readonly runs?: boolean;
  /** Its clock stands where the test puts it: what is measured by it is exact, however slow the machine is. */
  readonly standsStill?: boolean;
  /** How far the clock of the database is ahead of the machine's; left out, it is that of the server. */
  readonly databaseAheadMs?: number;
  /** From the start on. */
  readonly aheadMs?: number;
}

export async function fleetBench({
  url,
  isDev = false,
  newAuthority,
  hasTls = true,
  environment = {},
  runs = false,
  standsStill = false,
  databaseAheadMs,
  aheadMs = 0,
}: BenchOptions) {
  const folder = await temporaryFolder();
  const files = hostFiles('');
  const log = recordedLog();
  const clock = { aheadMs };
  const made: { authority?: NodeAuthority; store?: Store } = {};
  const [certPath, keyPath] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  await files.writeAtomic(certPath, Buffer.from(SITE.cert));
  await files.writeAtomic(keyPath, Buffer.from(SITE.key));
  const tlsFiles = hasTls ? { TLS_CERT: certPath, TLS_KEY: keyPath } : {};
  const given = {
    RELEASE_DIR: join(folder, 'releases'),
    LISTEN_ADDR: '127.0.0.1:0',
    STATE_DATABASE_URL: url,
    PUBLISH_TOKEN,
  };
  const settings = readSettings(
    { ...given, ...tlsFiles, CONTROL_PLANE_TOKEN, ...environment },
    { isDev, newAuthority },
  );
  const startMs = Date.now();
  const nowMs = () => (standsStill ? startMs : Date.now()) + clock.aheadMs;
  const server = await openServer(settings, {
    files,
    ranges: hostRanges(''),
    clock: { ...fakeClock(), nowMs, monotonicMs: () => nowMs(), sleep: shortSleep },
    random: hostRandom(),
    log,
    http: undiciHttp(),
    bakedKeyring: null,
    openStore: async (at) => {
      const opened = await openDatabase<Tables>(at);
      const stateMs = async () => (databaseAheadMs === undefined ? nowMs() : Date.now() + databaseAheadMs);
      made.store = opened.nowMs === undefined ? opened : { ...opened, nowMs: stateMs };
      return made.store;
    },
    openAuthority: async (paths) => {
      made.authority = await openAuthority({ files, log, buildDateMs: 0 }, paths, nowMs());
      return made.authority;
    },
  });
  const service = { title: 'test', version: '1.0.0', log, ...server };
  const tcp = await listenTcp(service, { host: '127.0.0.1', port: 0, ...(server.tls && { tls: server.tls }) });
  const socket = join(folder, 'server.sock');
  const unix = await listenUnix(service, socket);
  const stop = new AbortController();
  const background = runs ? server.run(stop.signal) : Promise.resolve();
  onTestFinished(async () => {
    stop.abort();
    await Promise.all([tcp.close(0), unix.close(0), background]);
    await server.close();
  });
  const { port } = tcp;
  const raw: FleetBench['raw'] = (as, method, path, body) =>
    exchange({ host: '127.0.0.1', port, method, path, ...(hasTls ? { ca: SITE.ca } : {}) }, hasTls, as, body);
  const bench: FleetBench = {
    port,
    socket,
    folder,
    log,
    clock,
    origin: `${hasTls ? 'https' : 'http'}://127.0.0.1:${port}`,
    get store() {
      return made.store as Store;
    },
    get authority() {
      return made.authority as NodeAuthority;
    },
    raw,
    call: (as, route, { params, body } = {}) => raw(as, route.method, addressed(route, params), asText(body)),
    root: (route, { params, body } = {}) => {
      const to = { socketPath: socket, method: route.method, path: addressed(route, params) };
      return exchange(to, false, {}, asText(body));
    },
  };
  return bench;
}

const LONGEST_SLEEP_MS = 100;

/** Nobody waits for long, and whoever works in between gets to do it. */
const shortSleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  sleep(Math.min(ms, LONGEST_SLEEP_MS), undefined, signal === undefined ? {} : { signal });

const addressed = <R extends Route>(route: R, params: ParamsOf<R> | undefined): string =>
  pathOf(route, (params ?? {}) as ParamsOf<R>, {} as QueryOf<R>);
const asText = (body: unknown): string | undefined => (body === undefined ? undefined : JSON.stringify(body));

function exchange(to: HttpOptions, isTls: boolean, as: As, body?: string | Buffer): Promise<Answer> {
  const { token, certificate, agent, headers } = as;
  const sent = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
    ...headers,
  };
  const send = isTls ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = send({ ...to, ...certificate, agent: agent ?? false, headers: sent }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const json = response.headers['content-type']?.includes('json') ? JSON.parse(text) : {};
        resolve({ status: response.statusCode ?? 0, json, headers: response.headers, text });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Keeps one connection open and uses it for everything. */
export const oneConnection = (certificate: Certificate): Agent => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: SITE.ca, ...certificate });
  onTestFinished(() => agent.destroy());
  return agent;
};

export const HOST = '127.0.0.1:9000';

export async function invited(bench: FleetBench, name: string, more: object = {}): Promise<string> {
  const { status, json } = await bench.root(NODE_ROUTES.inviteNode, { body: { name, host: HOST, ...more } });
  if (status !== 201) throw new Error(`no invitation: ${JSON.stringify(json)}`);
  return String(json.join);
}

export interface EnrolledHost {
  readonly id: string;
  readonly name: string;
  readonly key: HostKey;
  readonly certificate: Certificate;
}

export async function enrolled(bench: FleetBench, name: string, key = hostKey()): Promise<EnrolledHost> {
  const body = key.enrolBy(await invited(bench, name));
  const { status, json } = await bench.call({}, NODE_ROUTES.enroll, { body });
  if (status !== 200) throw new Error(`not enrolled: ${JSON.stringify(json)}`);
  return { id: String(json.id), name, key, certificate: { cert: String(json.certificate), key: key.key } };
}

export async function operatorToken(bench: FleetBench, name: string, role: string): Promise<string> {
  const { json } = await bench.root(NODE_ROUTES.addOperator, { body: { name, role } });
  return String(json.token);
}

/** The events of a subject's audit trail and who did them, in order. */
export async function trailOf({ store }: FleetBench, subject: string): Promise<string[]> {
  const rows = await store.db
    .selectFrom('audit')
    .select(['event', 'actor'])
    .where('subject', '=', subject)
    .orderBy('sequence')
    .execute();
  return rows.map(({ event, actor }) => `${event} by ${actor}`);
}
