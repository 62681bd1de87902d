import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { QxError } from '../errors.ts';
import type { Process, ServiceState, Services } from '../ports.ts';
import { hostPath } from './host-path.ts';

const RESTART_TIMEOUT_MS = 90_000;
/** A script, after all, on a host that may be busy with its guests. */
const STATUS_TIMEOUT_MS = 30_000;
const PLACES = ['/sbin/rc-service', '/usr/sbin/rc-service', '/bin/rc-service', '/usr/bin/rc-service'];

/** Exit codes of `rc-service NAME status`, as OpenRC's openrc-run.sh and supervise-daemon.sh return them. */
const STATES: Readonly<Record<number, ServiceState>> = {
  0: 'started',
  3: 'stopped',
  16: 'stopped',
  32: 'crashed',
  // The supervisor itself is gone: whatever it watched is watched by nobody.
  64: 'crashed',
};

/** Somebody else is starting it: OpenRC refuses to restart a service in the middle of that. */
const STARTING = 8;
const POLL_MS = 200;

/** The services of the host below `root`: this machine's, those of a folder that holds OpenRC, or none. */
export function openrc(root: string, runner: Process): Services {
  const isFolder = root !== '' && root !== '/';
  const standIn = whyNot(root, isFolder);
  if (standIn !== null) {
    return { standIn, restart: async () => undefined, state: async () => 'unknown', instance: async () => '' };
  }
  const inRoot = (...argv: [string, ...string[]]): [string, ...string[]] =>
    isFolder ? ['chroot', root, ...argv] : argv;
  const run = (name: string, command: string, timeoutMs: number) =>
    runner.run(inRoot('rc-service', name, command), { timeoutMs });
  const read = async (...paths: string[]): Promise<string> =>
    (await runner.run(inRoot('cat', ...paths), { timeoutMs: STATUS_TIMEOUT_MS })).stdout.trim();
  /** As right after a boot, when the runlevel has not come to its end: a service that is about to be up is no failure. */
  const whileStarting = async (name: string): Promise<void> => {
    const deadlineMs = performance.now() + RESTART_TIMEOUT_MS;
    while (performance.now() < deadlineMs) {
      if ((await run(name, 'status', STATUS_TIMEOUT_MS)).exitCode !== STARTING) return;
      await sleep(POLL_MS);
    }
  };
  /**
   * OpenRC calls a service started while its supervisor waits to start it once more, and for ever when it died so soon after
   * its start that the supervisor did not hear of it: then it stays a zombie.
   */
  const isDead = async (name: string): Promise<boolean> => {
    const pid = await read(`/run/openrc/options/${name}/child_pid`);
    if (!/^[1-9][0-9]*$/.test(pid)) return false;
    const { exitCode } = await runner.run(inRoot('kill', '-0', pid), { timeoutMs: STATUS_TIMEOUT_MS });
    return exitCode === 1 || /^[0-9]+ \(.*\) Z /s.test(await read(`/proc/${pid}/stat`));
  };
  return {
    standIn: null,
    restart: async (name) => {
      await whileStarting(name);
      const { exitCode, stdout, stderr } = await run(name, 'restart', RESTART_TIMEOUT_MS);
      if (exitCode === 0) return;
      const said = `${stdout}${stderr}`.trim().split('\n').slice(-3).join('; ').slice(0, 500);
      throw new QxError('SERVICE_FAILED', `service ${name} did not restart (${exitCode}): ${said}`, {
        next: `rc-service ${name} restart, and its log`,
      });
    },
    instance: (name) => read(`/run/openrc/options/${name}/child_pid`, `/run/openrc/options/${name}/start_count`),
    state: async (name) => {
      const state = STATES[(await run(name, 'status', STATUS_TIMEOUT_MS)).exitCode] ?? 'unknown';
      return state === 'started' && (await isDead(name)) ? 'crashed' : state;
    },
  };
}

function whyNot(root: string, isFolder: boolean): string | null {
  const hasOpenrc = PLACES.some((place) => existsSync(hostPath(root, place)));
  if (!hasOpenrc) return isFolder ? 'the folder holds no OpenRC' : 'this machine has no OpenRC';
  if (isFolder && process.getuid?.() !== 0) return 'only root can run the OpenRC of a folder';
  return null;
}
