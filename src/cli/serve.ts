import { once } from 'node:events';
import type { Settings } from '../server/settings.ts';
import { hostClock, hostRandom } from '../system/clock.ts';
import { hostFiles } from '../system/files.ts';
import { bakedKeyring } from '../system/keyring.ts';
import { hostProcess } from '../system/process.ts';
import { rootCommand, runCommand } from './command.ts';
import { programVersion } from './version.ts';

export function agentMain(args: readonly string[]): Promise<number> {
  const description = 'Quantix host agent: keeps this host up to date from signed releases.';
  return runCommand(rootCommand('qx-node', description), args);
}

/** The update server: without a command it serves until it is told to stop. */
export async function serverMain(args: readonly string[]): Promise<number> {
  const { ENVIRONMENT, readSettings } = await import('../server/settings.ts');
  const rows = Object.entries(ENVIRONMENT).map(([name, row]) => {
    return `  ${name.padEnd(20)} ${row.means}${row.default === '' ? '' : ` (default ${row.default})`}`;
  });
  const program = rootCommand(
    'qx-update-server',
    'Quantix update server: publishes signed releases and serves them to hosts.',
  )
    .option('--dev', 'for development: listens on loopback only, needs no token there, makes keys')
    .addHelpText('after', `\nEnvironment:\n${rows.join('\n')}\n\n${SERVER_EXAMPLES}`)
    .action(({ dev }: { dev?: boolean }) => serveReleases(readSettings(process.env, { isDev: dev === true })));
  return runCommand(program, args);
}

const SERVER_EXAMPLES = `Examples:
  PUBLISH_TOKEN=$(cat token) RELEASE_DIR=/data/releases qx-update-server
  RELEASE_DIR=$PWD/releases KEYRING=$PWD/keyring.json qx-update-server --dev
  curl http://localhost:9000/health
  curl http://localhost:9000/api/v1/quantix-os/manifest?channel=stable`;

async function serveReleases(settings: Settings): Promise<void> {
  const { openServer } = await import('../server/open.ts');
  const { SERVER_ROUTES } = await import('../format/routes.ts');
  const { hostRanges } = await import('../system/ranges.ts');
  const { jsonLog } = await import('../system/log.ts');
  const { listenTcp } = await import('../system/listener.ts');
  const log = jsonLog('qx-update-server');
  const ports = {
    files: hostFiles(''),
    ranges: hostRanges(''),
    clock: hostClock(hostProcess()),
    random: hostRandom(),
    log,
    bakedKeyring: bakedKeyring(),
  };
  const { handlers, admit, tls, close } = await openServer(settings, ports);
  try {
    const service = {
      title: 'Quantix update server',
      version: programVersion(),
      routes: SERVER_ROUTES,
      handlers,
      admit,
      log,
    };
    const listening = await listenTcp(service, { host: settings.host, port: settings.port, ...(tls && { tls }) });
    log.info('listening', { host: settings.host, port: listening.port, tls: tls !== null });
    log.info('stopping', { signal: await stopSignal() });
    await listening.close();
  } finally {
    await close();
  }
}

/** The first signal lets requests finish; after it, signals have their usual effect and end the program at once. */
async function stopSignal(): Promise<string> {
  const heard = new AbortController();
  const received = ['SIGTERM', 'SIGINT'].map((name) => once(process, name, { signal: heard.signal }).then(() => name));
  const first = Promise.race(received);
  // The one that lost the race ends by being aborted, which is no failure.
  for (const other of received) other.catch(() => undefined);
  return first.finally(() => heard.abort());
}
