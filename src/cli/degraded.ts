import { createAdmission } from '../agent/admission.ts';
import { mountTrouble } from '../agent/mounts.ts';
import { isProven, reportStarted } from '../agent/self.ts';
import { loadConfig } from '../agent/settings.ts';
import { isCode, QxError } from '../errors.ts';
import { AGENT_ROUTES } from '../format/agent-routes.ts';
import type { Disks } from '../ports/disks.ts';
import type { Handlers } from '../ports/serving.ts';
import type { Boot, Clock, Files, Log } from '../ports.ts';
import type { Network } from './daemon.ts';
import type { Life, Signals } from './life.ts';
import { socketPath } from './socket.ts';
import { programVersion } from './version.ts';

/**
 * The agent where something is missing that only a person can bring back. It stays up, says so on its socket, touches nothing,
 * and ends when that is there, to be started with it. Settings that it refuses it waits out only in a version that has run on
 * this host before: then somebody's hand slipped. One that never ran here may be the reason itself: it ends at once, and
 * node-run takes it back.
 */

interface Machine {
  readonly files: Files;
  readonly boot: Boot;
  readonly disks: Disks;
  readonly clock: Clock;
  readonly log: Log;
}

interface Place {
  readonly socket: string;
  readonly signals: Signals;
  readonly life: Life;
}

const LOOK_MS = 5000;

interface Wait {
  readonly why: QxError;
  readonly isOver: () => Promise<boolean>;
}

/** @throws the error itself when it is none that this version can wait out */
export async function waitOut(error: unknown, host: Machine, network: Network, place: Place): Promise<void> {
  const wait = await waitFor(error, host);
  if (wait === null) throw error;
  const { clock, log } = host;
  const { code, message: detail, next } = wait.why;
  log.warn(code.toLowerCase(), { code, detail, next });
  // Nothing may count this start, nor the next ones.
  await reportStarted(host).catch(() => undefined);
  const stop = new AbortController();
  void place.signals.stop.then(() => stop.abort());
  const listening = await listen(host, wait.why, network, place.socket);
  place.life.serving();
  try {
    do await clock.sleep(LOOK_MS, stop.signal).catch(() => undefined);
    while (!stop.signal.aborted && !(await wait.isOver()));
    if (!stop.signal.aborted) log.info('restarting', { detail: `over: ${detail}` });
  } finally {
    await listening.close();
  }
}

async function waitFor(error: unknown, host: Machine): Promise<Wait | null> {
  if (isCode(error, 'MOUNT_MISSING')) {
    return { why: error, isOver: async () => (await mountTrouble(host, ['/quantix'])) === null };
  }
  if (!isCode(error, 'CONFIG_INVALID') || !(await isProven(host.files))) return null;
  const next = `mend it, then qx-update config check; the agent looks again every ${LOOK_MS / 1000} s`;
  return { why: new QxError('SETTINGS_REFUSED', error.message, { next }), isOver: () => areMended(host) };
}

async function areMended({ files }: Pick<Machine, 'files'>): Promise<boolean> {
  try {
    await loadConfig(files);
    return true;
  } catch {
    return false;
  }
}

async function listen({ clock, log }: Pick<Machine, 'clock' | 'log'>, why: QxError, network: Network, socket: string) {
  const { path, close } = await socketPath(socket);
  const listening = await network.listenUnix(
    {
      title: 'Quantix host agent, waiting for what it needs',
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
