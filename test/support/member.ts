import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { auditLog } from '../../src/agent/audit.ts';
import { settleIdentity } from '../../src/agent/fleet/binding.ts';
import { enrol, type Member } from '../../src/agent/fleet/enrol.ts';
import { memberHttp } from '../../src/agent/fleet/membership.ts';
import { createMaintenance, type Maintenance } from '../../src/agent/maintenance/maintenance.ts';
import { type Config, readConfig } from '../../src/format/config.ts';
import type { Grant, ReleaseRef } from '../../src/ports/offer.ts';
import type { Hooks } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { grubBoot } from '../../src/system/grub.ts';
import { hostHooks } from '../../src/system/hooks.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { hostProcess } from '../../src/system/process.ts';
import { type SteppedClock, steppedClock } from './agent-host.ts';
import { fixedRandom, recordedLog } from './fakes.ts';
import { type FleetBench, invited } from './fleet.ts';
import { cutAfter } from './powercut.ts';
import { temporaryFolder } from './temp.ts';

/** What of a host has to do with its fleet, on real files, real programs and a real network. */

export interface TestMember extends Maintenance, Member {
  readonly root: string;
  /** The power has gone. */
  isOff(): boolean;
  readonly config: Config;
  readonly hooks: Hooks;
  readonly clock: SteppedClock;
  readonly log: ReturnType<typeof recordedLog>;
  write(path: string, content: string, mode?: number): Promise<void>;
}

export interface MemberOptions {
  readonly root?: string;
  /** Lines of `updates:`. */
  readonly settings?: readonly string[];
  readonly clock?: SteppedClock;
  /** PEM: trusted for what no join string names. */
  readonly ca?: string;
  /** The power goes after so many effects on disk and network. */
  readonly cutAfter?: number;
}

/** Fresh objects over what is in the folder: what an agent that has just started has. */
export async function openMember(options: MemberOptions = {}): Promise<TestMember> {
  const { settings = [], clock = steppedClock(new Date().toISOString()) } = options;
  const root = options.root ?? (await temporaryFolder());
  const config = readConfig([
    { path: 'test', text: `updates:\n  enabled: true\n${settings.map((line) => `  ${line}\n`).join('')}` },
  ]);
  const log = recordedLog();
  const undici = undiciHttp(options.ca === undefined ? {} : { ca: options.ca });
  onTestFinished(() => undici.close());
  const cut = cutAfter({ files: hostFiles(root), undici }, options.cutAfter ?? Number.POSITIVE_INFINITY);
  const { files } = cut.ports;
  const boot = grubBoot(root, hostProcess());
  const http = memberHttp(cut.ports.undici, files, boot);
  const hooks = hostHooks(root, hostProcess());
  const host = { config, files, http, hooks, clock, log, random: fixedRandom, audit: auditLog({ files, clock, log }) };
  const write: TestMember['write'] = async (path, content, mode = 0o644) => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content, { mode });
  };
  if (options.root === undefined) await write('etc/quantix-version', '1.0.0\n');
  // What a machine does that starts, whatever happens to it later.
  await settleIdentity({ ...host, files: hostFiles(root) });
  const maintenance = createMaintenance(host);
  onTestFinished(() => maintenance.duties.stop());
  return { ...host, ...maintenance, root, write, isOff: cut.isOff };
}

export async function joinString(fleet: FleetBench, name: string, more: object = {}): Promise<string> {
  return invited(fleet, name, { host: `127.0.0.1:${fleet.port}`, ...more });
}

export async function newMember(fleet: FleetBench, name: string, more: object = {}, options: MemberOptions = {}) {
  const member = await openMember(options);
  await enrol(member, await joinString(fleet, name, more), {});
  return member;
}

export const RELEASE = { product: 'quantix-os', channel: 'stable', version: '1.1.0' } as const;

/** Asks until it is granted or `rounds` are over; what it waited for, each reason once. */
export async function untilGranted(
  { offer, clock }: TestMember,
  rounds = 50,
  pause: () => Promise<void> = async () => undefined,
  release: ReleaseRef = RELEASE,
): Promise<{ readonly grant: Grant; readonly reasons: readonly string[] }> {
  const reasons: string[] = [];
  for (let i = 0; ; i++) {
    const grant = await offer.mayReboot(release);
    if (grant.granted || i >= rounds) return { grant, reasons };
    if (!reasons.includes(grant.reason)) reasons.push(grant.reason);
    await pause();
    clock.advance(15_000);
  }
}

/** As the boot script leaves it while the health gate looks. */
export const JOURNAL = {
  previous_slot: 'A',
  target_slot: 'B',
  target_version: '1.1.0',
  boot_attempts: 1,
  max_attempts: 3,
  pending: true,
  format: 1,
  id: 'abcdefgh01234567',
  phase: 'trial',
  product: 'quantix-os',
  channel: 'stable',
  previous_version: '1.0.0',
  release_date: '2026-11-01T00:00:00Z',
  release_digest: 'a'.repeat(64),
  min_rollback_version: null,
  is_whole: true,
  image: null,
  components: [],
  started_at: '2026-11-27T12:00:00Z',
  updated_at: '2026-11-27T12:00:00Z',
  error: null,
};
