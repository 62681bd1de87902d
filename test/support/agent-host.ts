import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { auditLog } from '../../src/agent/audit.ts';
import type { Host } from '../../src/agent/host.ts';
import { createMaintenance } from '../../src/agent/maintenance/maintenance.ts';
import { mountTrouble } from '../../src/agent/mounts.ts';
import { slotFinder } from '../../src/agent/slot/device.ts';
import { freshState } from '../../src/core/boot.ts';
import { QxError } from '../../src/errors.ts';
import { readConfig } from '../../src/format/config.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import type { Grant, Outcome } from '../../src/ports/offer.ts';
import type { Clock, Files, Random, ServiceState, Services } from '../../src/ports.ts';
import { hostArchive } from '../../src/system/archive.ts';
import { operatorBundles } from '../../src/system/bundle.ts';
import { hostDisks } from '../../src/system/disk/partitions.ts';
import { hostDisk } from '../../src/system/disk.ts';
import { hostFiles } from '../../src/system/files.ts';
import { grubBoot } from '../../src/system/grub.ts';
import { hostHooks } from '../../src/system/hooks.ts';
import { hostProcess } from '../../src/system/process.ts';
import { hostRanges } from '../../src/system/ranges.ts';
import { agentKeyring, contentOf, type Site } from './agent-releases.ts';
import { recordedLog } from './fakes.ts';

/** A whole host on real files in a folder, with two plain files for its slots; only services, time and the server are played. */

export const SLOT_BYTES = 2 << 20;

/** Lays a host that runs 1.0.0 from slot A into an empty folder; slot B holds the same image and is good too. */
export async function layHost(root: string, imageBytes: Uint8Array): Promise<void> {
  const write = async (path: string, content: string | Uint8Array, mode = 0o644): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content, { mode });
  };
  const slot = new Uint8Array(SLOT_BYTES);
  slot.set(imageBytes);
  await write('slots/a', slot);
  await write('slots/b', slot);
  const environment = encodeBoot({ ...freshState('A'), B: { ok: true, tries: 0 } });
  await write('boot/grub/grubenv', environment);
  await write('boot/grub/grubenv.bak', environment);
  await write('proc/cmdline', 'quantix.slot=A quantix.env=grubenv\n');
  await write('etc/quantix-version', '1.0.0\n');
  for (const name of ['qx-console', 'qx-node']) {
    await write(`data/bin/${name}`, contentOf(name, '1.0.0'), 0o755);
    await write(`data/versions/${name}.version`, '1.0.0\n');
  }
  await write('data/share/host-ui/index.html', contentOf('host-ui', '1.0.0'));
  await write('data/versions/host-ui.version', '1.0.0\n');
  await mkdir(join(root, 'quantix/limiquantix'), { recursive: true });
}

export interface SteppedClock extends Clock {
  advance(ms: number): void;
  /** Called at each sleep, before the time passes. */
  onSleep: ((ms: number) => void | Promise<void>) | null;
}

/** Sleeping is what makes the time pass. */
export function steppedClock(start = '2026-11-10T12:00:00Z'): SteppedClock {
  const time = { ms: Date.parse(start) };
  const clock: SteppedClock = {
    onSleep: null,
    advance: (ms) => void Object.assign(time, { ms: time.ms + ms }),
    nowMs: () => time.ms,
    monotonicMs: () => time.ms,
    isSynchronised: async () => true,
    sleep: async (ms, signal) => {
      if (signal?.aborted === true) throw new QxError('CANCELLED', 'waiting was cancelled');
      await clock.onSleep?.(ms);
      clock.advance(ms);
    },
  };
  return clock;
}

const PROGRAMS: Readonly<Record<string, string>> = { 'quantix-console': 'qx-console', 'quantix-node': 'qx-node' };

export interface TestServices extends Services {
  readonly restarts: string[];
  /** Programs that never stay up, by their content. */
  readonly broken: Set<string>;
}

/** A service is as good as the program on the disk that it was last started from. */
function testServices(files: Files): TestServices {
  const [restarts, broken, states] = [[] as string[], new Set<string>(), new Map<string, ServiceState>()];
  return {
    standIn: null,
    restarts,
    broken,
    restart: async (name) => {
      restarts.push(name);
      const program = await files.read(`/data/bin/${PROGRAMS[name] ?? name}`, 1 << 20);
      states.set(name, broken.has(new TextDecoder().decode(program ?? new Uint8Array())) ? 'crashed' : 'started');
    },
    state: async (name) => states.get(name) ?? 'started',
    instance: async () => 'one',
  };
}

const countingRandom = (life: () => number): Random => {
  const count = { ids: 0 };
  const digits = (value: number, width: number): string => String(value).padStart(width, '0');
  return { id: () => `update${digits(++count.ids, 10)}${digits(life(), 6)}`, unit: () => 0.5 };
};

/** Ids differ between the agents of one host too. */
const LIVES = { count: 0, next: () => LIVES.count++ };

export interface World {
  readonly root: string;
  readonly site: Site;
  /** Lines of `updates:`. */
  readonly settings?: readonly string[];
  readonly clock?: SteppedClock;
  readonly isRoot?: boolean;
  /** Of all agents that ever ran on this host, which one this is: the same one draws the same ids. */
  readonly life?: number;
}

export interface TestHost extends Host {
  readonly root: string;
  readonly clock: SteppedClock;
  readonly site: Site;
  readonly log: ReturnType<typeof recordedLog>;
  readonly services: TestServices;
  readonly outcomes: Outcome[];
  /** What was asked of the offer, in order. */
  readonly asked: string[];
  /** Answers instead of those of a host that stands alone. */
  readonly grants: { apply?: Grant; reboot?: Grant };
  /** How often it was told to reboot. */
  readonly machine: { readonly reboots: number };
  /** Whether the agent's own socket answers. */
  readonly socket: { answers: boolean };
}

const noPost = async (): Promise<never> => {
  throw new Error('a host that stands alone tells nobody anything');
};

/** Fresh objects over what is in the folder: what a process that has just started has. */
export async function openHost({
  root,
  site,
  settings = [],
  clock = steppedClock(),
  isRoot = true,
  life,
}: World): Promise<TestHost> {
  const lines = ['slots: { A: /slots/a, B: /slots/b }', ...settings];
  const config = readConfig([{ path: 'test', text: `updates:\n${lines.map((line) => `  ${line}\n`).join('')}` }]);
  const [files, runner] = [hostFiles(root), hostProcess()];
  const [asked, outcomes]: [string[], Outcome[]] = [[], []];
  const grants: TestHost['grants'] = {};
  const log = recordedLog();
  const [boot, disks] = [grubBoot(root, runner), hostDisks(root)];
  const lost = () => mountTrouble({ files, boot, disks }, ['/quantix']);
  const audit = auditLog({ files, clock, log, lost });
  const hooks = hostHooks(root, runner);
  const alone = createMaintenance({
    config,
    clock,
    files,
    http: { ...site, post: noPost },
    hooks,
    log,
    audit,
    random: countingRandom(() => life ?? LIVES.next()),
  });
  const socket = { answers: true };
  const machine = { reboots: 0 };
  return {
    root,
    site,
    config,
    keyring: await agentKeyring(),
    buildDateMs: Date.parse('2026-01-01T00:00:00Z'),
    isRoot,
    files,
    ranges: hostRanges(root),
    archive: hostArchive(root),
    http: site,
    bundles: operatorBundles(),
    disk: hostDisk({ root, slot: slotFinder({ boot, disks }, config.slots), process: runner }),
    disks,
    boot: {
      ...boot,
      reboot: async () => void Object.assign(machine, { reboots: machine.reboots + 1 }),
    },
    machine,
    services: testServices(files),
    process: runner,
    hooks,
    clock,
    random: countingRandom(() => life ?? LIVES.next()),
    log,
    audit,
    asked,
    outcomes,
    grants,
    socket,
    offer: {
      mayApply: async (release, needsReboot) => {
        asked.push(`apply ${release.version}`);
        return grants.apply ?? alone.offer.mayApply(release, needsReboot);
      },
      mayReboot: async (release) => {
        asked.push(`reboot ${release?.version ?? ''}`);
        return grants.reboot ?? alone.offer.mayReboot(release);
      },
      beginReboot: async () => grants.reboot ?? alone.offer.beginReboot(),
    },
    report: { outcome: async (outcome) => void outcomes.push(outcome) },
    duties: alone.duties,
    agent: { answers: async () => socket.answers },
  };
}
