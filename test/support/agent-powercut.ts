import { expect } from 'vitest';
import { auditLog } from '../../src/agent/audit.ts';
import { confirm } from '../../src/agent/confirm.ts';
import type { Host } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { recover } from '../../src/agent/recover.ts';
import { type BootState, nextBoot } from '../../src/core/boot.ts';
import { isSettled } from '../../src/core/update.ts';
import type { Bench } from './agent-bench.ts';
import { openHost, type TestHost } from './agent-host.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  type KnownImages,
  memoryOf,
  okSlots,
  rebootInto,
  systemOn,
} from './agent-machine.ts';
import { memorySite, type Release } from './agent-releases.ts';
import { eachMoment } from './powercut.ts';
import { newStates } from './snapshot.ts';

/**
 * The power goes after each effect of a journey, in turn. Then either the agent starts again in the same boot, or the
 * machine boots, as GRUB would; in both cases the host must be one thing or the other, and the next update go through.
 */

export interface Journey {
  /** The newest of these is what the host has in the end. */
  readonly releases: () => Promise<readonly Release[]>;
  /** What happened before, with power. */
  readonly prepare?: (host: TestHost) => Promise<unknown>;
  readonly act: (host: Host) => Promise<unknown>;
  readonly socketAnswers?: boolean;
}

export const STARTS = ['the agent starts again', 'the machine boots'] as const;
type Start = (typeof STARTS)[number];

export const componentsOf = (version: string) => ({ 'host-ui': version, 'qx-console': version, 'qx-node': version });

/** The agent that an earlier life of this host left its files to. */
const successor = (root: string, releases: readonly Release[], life: number): Promise<TestHost> =>
  openHost({ root, site: memorySite(...releases), life });

/** Lives of a host after the cut, apart from those that prepared it. */
const [CUT, NEXT, AFTER, LATER] = [1000, 1001, 1002, 1003];

async function stateOf(root: string): Promise<BootState> {
  const { state } = await bootState(root);
  if (state === null) throw new Error('both copies of the boot environment are lost');
  return state;
}

/** What holds at every moment: each slot that GRUB may take holds a whole system. */
async function expectWhole(root: string, known: KnownImages): Promise<void> {
  const state = await stateOf(root);
  expect(okSlots(state).length).toBeGreaterThan(0);
  const next = nextBoot(state) ?? 'A';
  expect([...okSlots(state), next].map((slot) => systemOn(root, slot, known))).not.toContain(null);
}

/** What holds once the agent has looked after its host. */
async function expectConverged(root: string, known: KnownImages): Promise<void> {
  await expectWhole(root, known);
  const [journal, memory, versions] = [await journalOf(root), await memoryOf(root), await installedBytes(root)];
  expect(await installedVersions(root)).toEqual(versions);
  const version = versions['qx-node'] ?? '';
  expect(versions).toEqual(componentsOf(version));
  const phase = journal?.phase ?? 'idle';
  expect(isSettled(phase) || phase === 'armed' || phase === 'trial', `phase ${phase}`).toBe(true);
  const hasNew = phase === 'complete' || phase === 'armed' || phase === 'trial';
  if (journal !== null) expect(version).toBe(hasNew ? journal.target_version : '1.0.0');
  // What boots next is what the components came with.
  if (journal?.image !== null) expect(systemOn(root, nextBoot(await stateOf(root)) ?? 'A', known)).toBe(version);
  if (phase === 'complete') expect(memory?.committed?.version).toBe(version);
  else expect(memory?.committed ?? null).toBeNull();
  // The floor of a release that did not prove itself would close the way back.
  if (phase !== 'complete' && phase !== 'rolledBack') expect(memory?.floor ?? null).toBeNull();
}

/** Applies the newest release until nothing is left to do, rebooting where that is asked for. */
async function expectToReach(root: string, releases: readonly Release[], known: KnownImages): Promise<void> {
  const { version, full_image } = (releases.at(-1) as Release).manifest;
  for (let round = 0, isThere = false; !isThere && round < 5; round++) {
    const host = await successor(root, releases, LATER + round);
    await confirm(host);
    const result = await install(host, { version }, {});
    const isRunning = nextBoot(await stateOf(root)) === (await host.boot.booted()).slot;
    isThere = result.kind === 'refusal' && result.code === 'NOTHING_NEWER' && isRunning;
    if (!isThere && result.kind !== 'complete') await rebootInto(root, known);
  }
  await expectConverged(root, known);
  expect(await installedBytes(root)).toEqual(componentsOf(version));
  const running = (await (await successor(root, releases, LATER)).boot.booted()).slot ?? 'A';
  expect(systemOn(root, running, known)).toBe(full_image === undefined ? '1.0.0' : version);
}

/** Which states of a host were not looked at before. */
interface Unseen {
  /** Of everything, right after the cut. */
  readonly cut: (root: string) => boolean;
  /** Of everything but the audit log, once the agent has looked after its host: from there the next update goes through. */
  readonly converged: (root: string) => boolean;
}

async function expectWellAfter(
  bench: Bench,
  root: string,
  releases: readonly Release[],
  { start, unseen }: { readonly start: Start; readonly unseen: Unseen },
): Promise<void> {
  await expectWhole(root, bench.known());
  if (start === 'the machine boots') {
    await rebootInto(root, bench.known());
    await confirm(await successor(root, releases, NEXT));
  }
  await recover(await successor(root, releases, NEXT));
  await expectConverged(root, bench.known());
  const settled = await journalOf(root);
  await recover(await successor(root, releases, AFTER));
  expect((await journalOf(root))?.phase).toBe(settled?.phase);
  if (unseen.converged(root)) await expectToReach(root, releases, bench.known());
}

/** Lets the journey come to its end once; what it holds at each moment on the way has a future of its own. Answers how many effects it has. */
export async function cutEverywhere(bench: Bench, journey: Journey, start: Start): Promise<number> {
  const releases = await journey.releases();
  const before = await bench.host(releases);
  await journey.prepare?.(before);
  const host = await bench.host(releases, { life: CUT }, before.root);
  Object.assign(host.socket, { answers: journey.socketAnswers ?? true });
  const [cut, converged] = [newStates(), newStates()];
  const unseen: Unseen = { cut, converged: (root) => converged(root, ['quantix/limiquantix/audit']) };
  const moments = { count: 0 };
  const powerGoes = async (count: number): Promise<void> => {
    moments.count = count;
    if (!unseen.cut(host.root)) return;
    const { root } = await bench.host(releases, {}, host.root);
    await expectWellAfter(bench, root, releases, { start, unseen }).catch((error: Error) => {
      throw Object.assign(error, { message: `cut after effect ${count}: ${error.message}` });
    });
    bench.remove(root);
  };
  const { files, archive, disk, boot, services } = host;
  const ports = eachMoment({ files, archive, disk, boot, services }, powerGoes, {
    torn: start === 'the machine boots',
  });
  const audit = auditLog({ ...host, ...ports });
  await journey.act({ ...host, ...ports, audit });
  await powerGoes(moments.count + 1);
  return moments.count;
}

/** A floor that rises with the release tells whether it counts as good. */
const RAISES = { min_rollback_version: '1.0.0' };

export const fullRelease = (bench: Bench, version: '2.0.0' | '3.0.0'): Promise<Release> =>
  bench.release(version, { components: componentsOf(version), image: bench.image(version), manifest: RAISES });

export const componentRelease = (
  bench: Bench,
  fields: Readonly<Record<string, { backup_before_update: boolean }>> = {},
): Promise<Release> => bench.release('2.0.0', { components: componentsOf('2.0.0'), fields, manifest: RAISES });
