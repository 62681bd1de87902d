import { hostname } from 'node:os';
import { createAdmission } from '../agent/admission.ts';
import { createAgent } from '../agent/agent.ts';
import { type Agency, agentHandlers } from '../agent/api.ts';
import { auditRefusals } from '../agent/audit-access.ts';
import { runAgent, settleAtStart } from '../agent/daemon.ts';
import { pageHandlers } from '../agent/page.ts';
import { changeSettings } from '../agent/settings.ts';
import { currentToken, prepareToken, tokenFault } from '../agent/token.ts';
import { asQxError, QxError } from '../errors.ts';
import { AGENT_ROUTES } from '../format/agent-routes.ts';
import { PAGE_ROUTES } from '../format/page-routes.ts';
import type { RouteTable } from '../format/route.ts';
import type { SettingsChange } from '../format/settings-change.ts';
import type { Listening, Service } from '../ports/serving.ts';
import type { Files, Log } from '../ports.ts';
import { keepRenewed, type Renewal } from './certificates.ts';
import { AGENT_SOCKET, type ComposedHost } from './composed.ts';
import type { Life, Signals } from './life.ts';
import { listenPatiently, type PatientListening } from './listen.ts';
import { socketPath } from './socket.ts';
import { programVersion } from './version.ts';

/** The life of the agent's process: listen, work, and leave when told to or when an update has replaced its executable. */

interface Certificate {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  readonly isFor: (name: string) => boolean;
}

/** How the agent is reached; `cli/serve.ts` hands in the real one. */
export interface Network {
  listenUnix<T extends RouteTable>(service: Service<T>, path: string): Promise<Listening>;
  listenTcp<T extends RouteTable>(
    service: Service<T>,
    endpoint: { host: string; port: number; tls: Certificate & { clientCa?: Uint8Array; asksClients: boolean } },
  ): Promise<Listening>;
  givenCertificate(files: Files, paths: { cert: string; key: string }): Promise<Certificate>;
  authorities(files: Files, setting: 'client_ca' | 'server_ca', path: string): Promise<Uint8Array>;
  ownCertificate(machine: { files: Files; log: Log }, nowMs: number): Promise<Certificate>;
}

interface Place {
  readonly socket: string;
  readonly signals: Signals;
  readonly life: Life;
}

type HostTls = Certificate & { readonly clientCa?: Uint8Array };

const MEND = 'mend the file that is named; it is looked at again every minute';

/** Whoever follows an update still reads how it ended before the agent makes way for its successor. */
const RESTART_AFTER_MS = 1500;
const LAST_REQUESTS_MS = 500;

export async function runDaemon(host: ComposedHost, network: Network, { socket, signals, life }: Place): Promise<void> {
  const stop = new AbortController();
  const restart = (): void => {
    host.log.info('restarting', { detail: 'an update replaced the executable of the agent' });
    setTimeout(() => stop.abort(), RESTART_AFTER_MS);
  };
  if (await settleAtStart(host)) {
    return host.log.info('restarting', { detail: 'the executable of the agent was put back' });
  }
  const agent = createAgent(host, { restart });
  const change = async (changed: SettingsChange): Promise<void> =>
    host.reconfigure(await changeSettings(host.files, changed));
  const listening = await listen(host, { agent, restart, changeSettings: change }, network, socket);
  life.serving();
  signals.onReload(() => void listening.renewal.look());
  const renewing = listening.renewal.run(stop.signal);
  await host.audit.record({ event: 'agent_started', fields: { version: programVersion() } });
  void signals.stop.then((signal) => {
    host.log.info('stopping', { signal });
    stop.abort();
  });
  // The loop may itself be waiting for the update to end.
  stop.signal.addEventListener('abort', () => {
    life.ending();
    void agent.stop();
  });
  try {
    await runAgent(host, agent, stop.signal);
  } finally {
    await host.duties.stop();
    await agent.stop();
    await listening.close();
    await renewing;
  }
}

async function listen(
  host: ComposedHost,
  agency: Pick<Agency, 'agent' | 'restart' | 'changeSettings'>,
  network: Network,
  socket: string,
): Promise<{ readonly renewal: Renewal; close(): Promise<void> }> {
  const { config, files, clock, log } = host;
  await prepareToken(host);
  const now: { tls: HostTls | null; tcp: PatientListening | null; clientFault: QxError | null } = {
    tls: null,
    tcp: null,
    clientFault: null,
  };
  const clients = async (): Promise<Pick<HostTls, 'clientCa'>> => {
    if (config.clientCa === null) return {};
    try {
      return { clientCa: await network.authorities(files, 'client_ca', config.clientCa) };
    } catch (error) {
      // Whoever could show a certificate goes on to be let in by the bundle of before; where there was none, nobody is.
      if (now.tls?.clientCa !== undefined) throw error;
      now.clientFault = asQxError(error);
      return {};
    }
  };
  const load = async (): Promise<HostTls> => ({
    // Its own is looked at again at the next start: where it cannot be kept each look would make another one.
    ...(config.tls
      ? await network.givenCertificate(files, config.tls)
      : (now.tls ?? (await network.ownCertificate(host, Math.max(clock.nowMs(), host.buildDateMs))))),
    ...(await clients()),
  });
  const take = (fresh: HostTls): void => {
    now.tcp?.renew(fresh);
    if (fresh.clientCa !== undefined) now.clientFault = null;
    now.tls = fresh;
  };
  const renewal = keepRenewed<HostTls>(null, { load, take, clock, log });
  const { listen: address } = config;
  if (address !== null) await renewal.look();
  const certified = (): HostTls => {
    if (now.tls !== null) return now.tls;
    throw new QxError('CONFIG_INVALID', renewal.state().fault ?? 'there is no certificate', { next: MEND });
  };
  const closed: Agency['closed'] = async () => {
    if (address === null) return [];
    const token = await tokenFault(files);
    return [
      ...(token === null ? [] : [['api_token', token] as const]),
      ...(now.clientFault === null ? [] : [['client_ca', now.clientFault] as const]),
      ...(now.tcp?.failure() == null ? [] : [['network', now.tcp.failure() as QxError] as const]),
    ];
  };
  const names = [hostname(), 'localhost'];
  const isOurName = (name: string): boolean => names.includes(name) || (now.tls?.isFor(name) ?? false);
  const service = {
    title: 'Quantix host agent',
    version: programVersion(),
    routes: { ...AGENT_ROUTES, ...PAGE_ROUTES },
    handlers: {
      ...agentHandlers({
        ...agency,
        host,
        hostname: hostname(),
        keyringFrom: host.keyringFrom,
        certificate: address === null ? null : renewal.state,
        closed,
      }),
      ...pageHandlers(files),
    },
    admit: createAdmission({ currentToken: () => currentToken(host), isOurName, clock, log }),
    documentFor: 'host-admin' as const,
    onRefused: auditRefusals(host.audit, clock),
    log,
  };
  const { path, close } = await socketPath(socket);
  const unix = await network.listenUnix(service, path);
  now.tcp =
    address &&
    (await listenPatiently(
      async () =>
        network.listenTcp(service, { ...address, tls: { ...certified(), asksClients: config.clientCa !== null } }),
      host,
    ));
  log.info('listening', { socket: AGENT_SOCKET, host: address?.host, port: now.tcp?.port });
  return {
    renewal,
    close: async () => {
      await Promise.all([unix.close(LAST_REQUESTS_MS), now.tcp?.close(LAST_REQUESTS_MS)]);
      await close();
    },
  };
}
