import { createAdmission } from '../agent/admission.ts';
import { isProven, reportStarted } from '../agent/self.ts';
import { loadConfig } from '../agent/settings.ts';
import { isCode, QxError } from '../errors.ts';
import { AGENT_ROUTES } from '../format/agent-routes.ts';
import type { Handlers } from '../ports/serving.ts';
import type { Clock, Files, Log } from '../ports.ts';
import type { Network } from './daemon.ts';
import { socketPath } from './socket.ts';
import { programVersion } from './version.ts';

/**
 * The agent with settings that it refuses. A version that has run on this host before did not change, so somebody's hand slipped:
 * it stays up, says so on its socket, touches nothing, and ends when they are mended, to be started with them. One that never ran
 * here may be the reason itself: it ends at once, and node-run takes it back.
 */

interface Machine {
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
}

interface Place {
  readonly socket: string;
  readonly stopSignal: Promise<string>;
}

const LOOK_MS = 5000;

/** @throws the error itself when it is none that this version can wait out */
export async function waitForSettings(error: unknown, host: Machine, network: Network, place: Place): Promise<void> {
  const { files, clock, log } = host;
  if (!isCode(error, 'CONFIG_INVALID') || !(await isProven(files))) throw error;
  const next = `mend it, then qx-update config check; the agent looks again every ${LOOK_MS / 1000} s`;
  const why = new QxError('SETTINGS_REFUSED', error.message, { next });
  log.warn('settings_refused', { code: why.code, detail: why.message, next });
  // Nothing may count this start, nor the next ones.
  await reportStarted(host).catch(() => undefined);
  const stop = new AbortController();
  void place.stopSignal.then(() => stop.abort());
  const listening = await listen(host, why, network, place.socket);
  try {
    do await clock.sleep(LOOK_MS, stop.signal).catch(() => undefined);
    while (!stop.signal.aborted && !(await areMended(files, network)));
    if (!stop.signal.aborted) log.info('restarting', { detail: 'the settings are mended' });
  } finally {
    await listening.close();
  }
}

async function areMended(files: Files, network: Network): Promise<boolean> {
  try {
    const { tls, clientCa, serverCa } = await loadConfig(files);
    if (tls) await network.givenCertificate(files, tls);
    if (clientCa !== null) await network.authorities(files, 'client_ca', clientCa);
    if (serverCa !== null) await network.authorities(files, 'server_ca', serverCa);
    return true;
  } catch {
    return false;
  }
}

async function listen({ clock, log }: Machine, why: QxError, network: Network, socket: string) {
  const { path, close } = await socketPath(socket);
  const listening = await network.listenUnix(
    {
      title: 'Quantix host agent, waiting for its settings',
      version: programVersion(),
      routes: AGENT_ROUTES,
      handlers: refusing(why),
      admit: createAdmission({ currentToken: async () => null, isOurName: () => false, clock, log }),
      documentFor: 'host-admin',
      log,
    },
    path,
  );
  log.info('listening', { socket });
  return { close: () => listening.close(0).finally(close) };
}

/** `health` too: a trial boot with settings that nobody can read has to fail. */
function refusing(why: QxError): Handlers<typeof AGENT_ROUTES> {
  const refuse = async () => ({ refused: why });
  const names = Object.keys(AGENT_ROUTES);
  const all = Object.fromEntries(names.map((name) => [name, refuse])) as unknown as Handlers<typeof AGENT_ROUTES>;
  const message = `${why.message}; ${why.next}`;
  const status: Handlers<typeof AGENT_ROUTES>['status'] = async () => ({ json: { status: 'error', message } });
  return { ...all, status };
}
