import { resolve } from 'node:path';
import { isSea } from 'node:sea';
import { QxError } from '../errors.ts';
import { AGENT_ROUTES } from '../format/agent-routes.ts';
import type { Config } from '../format/config.ts';
import type { Files, Log } from '../ports.ts';
import { hostClock, hostRandom } from '../system/clock.ts';
import { leaveForeignEnvironment } from '../system/environment.ts';
import { hostFiles } from '../system/files.ts';
import { bakedKeyring } from '../system/keyring.ts';
import { hostProcess } from '../system/process.ts';
import { agentClient } from './client.ts';
import { rootCommand, rootOption, runCommand } from './command.ts';
import { AGENT_SOCKET, type ComposedHost, type HostRecords } from './composed.ts';
import type { Network } from './daemon.ts';
import { lifeOf, listenToSignals } from './life.ts';
import { buildDateMs } from './version.ts';

const AGENT_LOCK = '/run/quantix/node.lock';
const HEARTBEAT = '/run/quantix/heartbeat';
const HEALTH_TIMEOUT_MS = 2000;

interface HostOptions {
  readonly log: Log;
  /** Settings instead of those that the host itself keeps. */
  readonly config?: Config;
}

/** Of the host that lives below `root`. */
export async function composeRecords(root: string, log: Log): Promise<HostRecords> {
  const { auditLog } = await import('../agent/audit.ts');
  const { mountTrouble } = await import('../agent/mounts.ts');
  const { hostDisks } = await import('../system/disk/partitions.ts');
  const { grubBoot } = await import('../system/grub.ts');
  const [files, runner] = [hostFiles(root), hostProcess()];
  const machine = { files, boot: grubBoot(root, runner), disks: hostDisks(root) };
  const lost = () => mountTrouble(machine, ['/quantix']);
  return { ...machine, audit: auditLog({ files, clock: hostClock(runner), log, lost }), random: hostRandom() };
}

/**
 * The host that lives below `root`, '' being this machine, with everything that the agent's journeys use of it.
 * @throws QxError MOUNT_MISSING where who this host is would be begun anew
 */
export async function composeHost(root: string, options: HostOptions): Promise<ComposedHost> {
  const { mountTrouble } = await import('../agent/mounts.ts');
  const { loadConfig } = await import('../agent/settings.ts');
  const { hostKeyring } = await import('../agent/keyring.ts');
  const { settleIdentity } = await import('../agent/fleet/binding.ts');
  const { memberHttp } = await import('../agent/fleet/membership.ts');
  const { createMaintenance } = await import('../agent/maintenance/maintenance.ts');
  const { hostArchive } = await import('../system/archive.ts');
  const { operatorBundles } = await import('../system/bundle.ts');
  const { slotFinder } = await import('../agent/slot/device.ts');
  const { hostDisk } = await import('../system/disk.ts');
  const { hostHooks } = await import('../system/hooks.ts');
  const { isolatedHttp } = await import('../system/isolated-http.ts');
  const { openrc } = await import('../system/openrc.ts');
  const { hostRanges } = await import('../system/ranges.ts');
  const { log } = options;
  const { files, audit, boot, disks, random } = await composeRecords(root, log);
  const lost = await mountTrouble({ files, boot, disks }, ['/quantix']);
  if (lost !== null) throw lost;
  const config = options.config ?? (await loadConfig(files));
  const live = { config };
  const runner = hostProcess();
  const clock = hostClock(runner);
  const isolated = isolatedHttp({ program: ownProgram(), log, authorities: () => serverAuthorities(files, config) });
  const http = memberHttp(isolated, files, boot);
  const hooks = hostHooks(root, runner);
  const daemon = agentClient(`${root}${AGENT_SOCKET}`);
  await settleIdentity({ files, audit, log, clock });
  return {
    get config() {
      return live.config;
    },
    reconfigure: (changed) => void Object.assign(live, { config: changed }),
    ...(await hostKeyring(bakedKeyring(), config, files)),
    buildDateMs: buildDateMs(),
    isRoot: process.getuid?.() === 0,
    files,
    ranges: hostRanges(root),
    archive: hostArchive(root),
    http,
    bundles: operatorBundles(),
    disk: hostDisk({ root, slot: slotFinder({ boot, disks }, config.slots), process: runner }),
    disks,
    boot,
    services: openrc(root, runner),
    process: runner,
    hooks,
    clock,
    random,
    log,
    ...createMaintenance({
      get config() {
        return live.config;
      },
      files,
      http,
      hooks,
      clock,
      random,
      log,
      audit,
    }),
    audit,
    agent: {
      answers: () =>
        daemon.call(AGENT_ROUTES.health, { timeoutMs: HEALTH_TIMEOUT_MS }).then(
          () => true,
          () => false,
        ),
    },
    close: () => isolated.close(),
  };
}

async function serverAuthorities(files: Files, { serverCa }: Config): Promise<{ ca?: string }> {
  if (serverCa === null) return {};
  const { authorities } = await import('../system/tls.ts');
  return { ca: new TextDecoder().decode(await authorities(files, 'server_ca', serverCa)) };
}

/** How this program is started once more: the executable, or Node and main.ts. */
const ownProgram = (): readonly string[] => [process.execPath, ...(isSea() ? [] : process.argv.slice(1, 2))];

interface AgentOptions {
  readonly root?: string;
  readonly config?: string;
}

/** The host agent: runs until it is told to stop, or until an update has replaced its own executable. */
export function agentMain(args: readonly string[]): Promise<number> {
  const description = 'Quantix host agent: keeps this host up to date from signed releases.';
  const program = rootCommand('qx-node', description)
    .addOption(rootOption())
    .option('--config <file>', 'read this file instead of those under /etc/limiquantix and /quantix/limiquantix')
    .addHelpText('after', `\n${AGENT_EXAMPLES}`)
    .action((options: AgentOptions) => serveAgent(options));
  return runCommand(program, args);
}

const AGENT_EXAMPLES = `Examples:
  qx-node
  qx-node --root $PWD/host --config node.yaml
  curl --unix-socket /run/quantix/node.sock http://localhost/api/v1/updates/status
  curl -k -X POST -H "Authorization: Bearer $(cat /quantix/limiquantix/api-token)" https://HOST:8443/api/v1/updates/apply`;

async function serveAgent({ root = '', config: path }: AgentOptions): Promise<void> {
  leaveForeignEnvironment();
  const { preferMemory } = await import('../system/engine.ts');
  preferMemory();
  const { jsonLog } = await import('../system/log.ts');
  const { loadConfigFile } = await import('../agent/settings.ts');
  const { startHeartbeat } = await import('../system/heartbeat.ts');
  const log = jsonLog('qx-node');
  const signals = listenToSignals(log);
  const files = hostFiles(root);
  const config = path === undefined ? undefined : await loadConfigFile(hostFiles(''), resolve(path));
  // The lock would make the folder: a misspelt root would become a host of its own.
  if ((await files.info('/')) === null) throw new QxError('USAGE', `--root: there is no folder ${root}`);
  const unlock = await files.lock(AGENT_LOCK);
  if (unlock === null) {
    throw new QxError('BUSY', 'another qx-node runs for this host', { next: `see who holds ${root}${AGENT_LOCK}` });
  }
  const life = lifeOf(`${root}${AGENT_SOCKET}`, signals, log);
  const stopHeartbeat = startHeartbeat(`${root}${HEARTBEAT}`, life.isWell);
  const { runDaemon } = await import('./daemon.ts');
  const { waitOut } = await import('./degraded.ts');
  const { listenTcp, listenUnix } = await import('../system/listener.ts');
  const { ONE_HOST } = await import('../system/listener/limits.ts');
  const certificates = await import('../system/tls.ts');
  const listenBounded: Network['listenTcp'] = (service, to) => listenTcp(service, { ...to, limits: ONE_HOST });
  const network = { ...certificates, listenTcp: listenBounded, listenUnix };
  const place = { socket: `${root}${AGENT_SOCKET}`, signals, life };
  const run = async (): Promise<void> => {
    const host = await composeHost(root, { log, ...(config && { config }) });
    if (host.keyringNote !== null) host.log.warn('keyring', { detail: host.keyringNote });
    await runDaemon(host, network, place).finally(() => host.close());
  };
  try {
    await run().catch(async (error: unknown) => {
      if (config !== undefined) throw error;
      return waitOut(
        error,
        { ...(await composeRecords(root, log)), clock: hostClock(hostProcess()), log },
        network,
        place,
      );
    });
  } finally {
    stopHeartbeat();
    await unlock();
  }
}
