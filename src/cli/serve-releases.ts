import type { Files, Log } from '../ports.ts';
import type { ServerPorts } from '../server/open.ts';
import type { Settings } from '../server/settings.ts';
import { hostClock, hostRandom } from '../system/clock.ts';
import { hostFiles } from '../system/files.ts';
import { bakedKeyring } from '../system/keyring.ts';
import { hostProcess } from '../system/process.ts';
import { keepRenewed } from './certificates.ts';
import { rootCommand, runCommand } from './command.ts';
import { lifeOf, listenToSignals } from './life.ts';
import { buildDateMs, programVersion } from './version.ts';

/** The update server: without a command it serves until it is told to stop. */
export async function serverMain(args: readonly string[]): Promise<number> {
  const { ENVIRONMENT, readSettings } = await import('../server/settings.ts');
  const rows = Object.entries(ENVIRONMENT).map(([name, row]) => {
    return `  ${name.padEnd(23)} ${row.means}${row.default === '' ? '' : ` (default ${row.default})`}`;
  });
  const program = rootCommand(
    'qx-update-server',
    'Quantix update server: publishes signed releases and serves them to hosts.',
  )
    .option('--dev', 'for development: listens on loopback only, needs no token there, makes keys')
    .option(
      '--new-authority <reason>',
      'the files of NODE_CA_CERT and NODE_CA_KEY are lost: go on with others. No certificate of a host counts any more; each is revoked, invited and enrolled anew',
    )
    .addHelpText('after', `\nEnvironment:\n${rows.join('\n')}\n\n${SERVER_EXAMPLES}`)
    .action(({ dev, newAuthority }: ServerStart) =>
      serveReleases(readSettings(process.env, { isDev: dev === true, newAuthority })),
    );
  return runCommand(program, args);
}

interface ServerStart {
  readonly dev?: boolean;
  readonly newAuthority?: string;
}

const SERVER_EXAMPLES = `Examples:
  PUBLISH_TOKEN=$(cat token) RELEASE_DIR=/data/releases qx-update-server
  RELEASE_DIR=$PWD/releases KEYRING=$PWD/keyring.json qx-update-server --dev
  qx-update-server --new-authority 'the disk with keys/ is dead'
  curl http://localhost:9000/health
  curl http://localhost:9000/api/v1/quantix-os/manifest?channel=stable`;

async function serveReleases(settings: Settings): Promise<void> {
  const { openServer } = await import('../server/open.ts');
  const { jsonLog } = await import('../system/log.ts');
  const { listenTcp, listenUnix } = await import('../system/listener.ts');
  const { listenOnSocket } = await import('./server-socket.ts');
  const log = jsonLog('qx-update-server');
  const signals = listenToSignals(log);
  lifeOf(settings.socket.path, signals, log);
  const files = hostFiles('');
  const { routes, handlers, admit, documentFor, tls, loadTls, tlsRenewed, run, close } = await openServer(
    settings,
    await serverPorts(files, log),
  );
  const service = {
    title: 'Quantix update server',
    version: programVersion(),
    routes,
    handlers,
    admit,
    documentFor,
    log,
  };
  try {
    const machine = { files, log, listenUnix: (path: string) => listenUnix(service, path) };
    const socket = await listenOnSocket(machine, settings.socket);
    const { host } = settings;
    const listening = await listenTcp(service, { host, port: settings.port, ...(tls && { tls }) }).catch(
      (error: unknown) => socket.close().then(() => Promise.reject(error)),
    );
    log.info('listening', { host, port: listening.port, tls: tls !== null });
    const stop = new AbortController();
    const renewed = async (signal: AbortSignal): Promise<void> => {
      if (tls === null) return;
      const take = (fresh: typeof tls): void => {
        // Refused before anything has changed: a next certificate that cannot be read.
        const follow = tlsRenewed(fresh);
        listening.renew(fresh);
        follow();
      };
      const renewal = keepRenewed(tls, { load: loadTls, take, clock: hostClock(hostProcess()), log });
      signals.onReload(() => void renewal.look());
      await renewal.run(signal);
    };
    const background = Promise.all([run(stop.signal), renewed(stop.signal)]);
    log.info('stopping', { signal: await signals.stop });
    stop.abort();
    await Promise.all([listening.close(), socket.close(), background]);
  } finally {
    await close();
  }
}

async function serverPorts(files: Files, log: Log): Promise<ServerPorts> {
  const { openAuthority } = await import('../system/authority.ts');
  const { openDatabase } = await import('../system/database.ts');
  const { undiciHttp } = await import('../system/http.ts');
  const { hostRanges } = await import('../system/ranges.ts');
  const clock = hostClock(hostProcess());
  return {
    files,
    http: undiciHttp(),
    ranges: hostRanges(''),
    clock,
    random: hostRandom(),
    log,
    bakedKeyring: bakedKeyring(),
    openStore: openDatabase,
    openAuthority: (paths) => openAuthority({ files, log, buildDateMs: buildDateMs() }, paths, clock.nowMs()),
  };
}
