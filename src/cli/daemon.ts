import { hostname } from 'node:os';
import { createAdmission } from '../agent/admission.ts';
import { createAgent } from '../agent/agent.ts';
import { type Agency, agentHandlers } from '../agent/api.ts';
import { auditRefusals } from '../agent/audit-access.ts';
import { runAgent, settleAtStart } from '../agent/daemon.ts';
import { pageHandlers } from '../agent/page.ts';
import { changeSettings } from '../agent/settings.ts';
import { currentToken, prepareToken } from '../agent/token.ts';
import { AGENT_ROUTES } from '../format/agent-routes.ts';
import { PAGE_ROUTES } from '../format/page-routes.ts';
import type { RouteTable } from '../format/route.ts';
import type { SettingsChange } from '../format/settings-change.ts';
import type { Listening, Service } from '../ports/serving.ts';
import { AGENT_SOCKET, type ComposedHost } from './composed.ts';
import { type Certificates, type Doors, openDoors } from './doors.ts';
import type { Life, Signals } from './life.ts';
import { listenPatiently } from './listen.ts';
import { socketPath } from './socket.ts';
import { programVersion } from './version.ts';

/** The life of the agent's process: listen, work, and leave when told to or when an update has replaced its executable. */

/** How the agent is reached; `cli/serve.ts` hands in the real one. */
export interface Network extends Certificates {
  listenUnix<T extends RouteTable>(service: Service<T>, path: string): Promise<Listening>;
  listenTcp<T extends RouteTable>(
    service: Service<T>,
    endpoint: { host: string; port: number; tls: ReturnType<Doors['tls']> },
  ): Promise<Listening>;
}

interface Place {
  readonly socket: string;
  readonly signals: Signals;
  readonly life: Life;
}

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
  signals.onReload(() => void listening.doors?.look());
  const looking = listening.doors?.run(stop.signal);
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
    await looking;
  }
}

async function listen(
  host: ComposedHost,
  agency: Pick<Agency, 'agent' | 'restart' | 'changeSettings'>,
  network: Network,
  socket: string,
): Promise<{ readonly doors: Doors | null; close(): Promise<void> }> {
  const { config, files, clock, log } = host;
  await prepareToken(host);
  const { listen: address } = config;
  const doors = address && (await openDoors(host, network));
  const names = [hostname(), 'localhost'];
  const isOurName = (name: string): boolean => names.includes(name) || doors?.isFor(name) === true;
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
        doors,
      }),
      ...pageHandlers(files),
    },
    admit: createAdmission({ currentToken: () => currentToken(host), isOurName, clock, log }),
    documentFor: 'host-admin' as const,
    onRefused: auditRefusals(host.audit, clock),
    log,
  };
  const serve = async (to: NonNullable<typeof address>, { tls }: Doors): Promise<Listening> =>
    network.listenTcp(service, { ...to, tls: tls() });
  const { path, close } = await socketPath(socket);
  const unix = await network.listenUnix(service, path);
  const tcp = address && doors && (await listenPatiently(() => serve(address, doors), host));
  if (tcp) doors?.opened(tcp);
  log.info('listening', { socket: AGENT_SOCKET, host: address?.host, port: tcp?.port });
  return {
    doors,
    close: async () => {
      await Promise.all([unix.close(LAST_REQUESTS_MS), tcp?.close(LAST_REQUESTS_MS)]);
      await close();
    },
  };
}
