import { cp, glob, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, onTestFinished, test } from 'vitest';
import { howToStart } from '../../scripts/support/vm/qemu.ts';
import { journeyHost, sha256Of } from '../support/journey-host.ts';
import { expectGoodRelease } from '../support/journey-release.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { IN_QEMU, SLOW, VM, vmOn } from './machine.ts';
import { campaign, isBrick } from './powercut/campaign.ts';
import { expectWell } from './powercut/expect-well.ts';
import { killsDuringUpdates } from './powercut/kills.ts';
import { recorder } from './powercut/recorder.ts';
import type { Recording } from './powercut/recording.ts';
import { sampleDisk } from './powercut/sample.ts';
import { counted, loadTally, newTally, saveTally, type Tally } from './powercut/tally.ts';

/**
 * `npm run powercut`: power cuts for as long as one likes. What it recorded, and what that came to, is kept in
 * dist/powercut, and the next run goes on from there.
 */

const FOLDER = 'dist/powercut';
const at = (name: string): string => join(FOLDER, name);
const setting = (name: string, standard: number): number => Number(process.env[name] ?? standard);
const [SEED, MINUTES, KILLS] = [setting('QX_SEED', 1), setting('QX_MINUTES', 0), setting('QX_KILLS', 0)];
/** In a round, each with a seed of its own; and between two that are started. */
const [STATES, DECIDED_PER_BOOT] = [10_000, 50];
const DAY_MS = 86_400_000;

requires({ ...VM, commands: [...VM.commands, 'grub-emu', 'debugfs'] })(`power cuts (seed ${SEED})`, () => {
  const imageOf = vmImages();
  const state: { tally: Tally } = { tally: newTally(SEED) };
  const count = async (...found: [what: 'decided' | 'booted' | 'killed', id: string, slot: 'A' | 'B' | null]) => {
    state.tally = counted(state.tally, ...found);
    await saveTally(at('tally.json'), state.tally);
  };
  const fail = (id: string, disk: string, cause: unknown): never => {
    throw new Error(`${id}: start its disk with\n  ${howToStart(disk)}`, { cause });
  };

  // What another executable or another grub.cfg came to does not count.
  beforeAll(async () => {
    const made = (await Promise.all(['dist/host/bin/qx-node', 'grub/grub.cfg'].map(sha256Of))).join('\n');
    if ((await readFile(at('made-by'), 'utf8').catch(() => null)) !== made) {
      await rm(FOLDER, { recursive: true, force: true });
      await mkdir(FOLDER, { recursive: true });
      await writeFile(at('made-by'), made);
    }
    for await (const left of glob(at('{kills,round,sample}-*'))) await rm(left, { recursive: true });
    state.tally = (await loadTally(at('tally.json'), SEED)) ?? state.tally;
    if (state.tally.bricks.length > 0) throw new Error(`mend these first: ${state.tally.bricks.join('; ')}`);
  });

  test.runIf(MINUTES > 0)('there is a recording of a whole update', async () => {
    if ((await readFile(at('recording.json'), 'utf8').catch(() => null)) !== null) return;
    const own = recorder(imageOf);
    await expectGoodRelease(imageOf, { stage: own.stage(FOLDER), settings: SLOW });
    const { images, ...recording } = await own.recording();
    for (const slot of ['A', 'B'] as const) await cp(images[slot], at(`${slot}.squashfs`));
    const kept: Recording = { ...recording, images: { A: at('A.squashfs'), B: at('B.squashfs') } };
    await writeFile(at('recording.json'), JSON.stringify(kept));
  });

  test.runIf(MINUTES > 0)('decided by GRUB, and every now and then started', { timeout: DAY_MS }, async () => {
    const recording: Recording = JSON.parse(await readFile(at('recording.json'), 'utf8'));
    const untilMs = performance.now() + MINUTES * 60_000;
    while (performance.now() < untilMs) await decideRound(recording, untilMs);
    process.stdout.write(`${JSON.stringify(state.tally)}\n`);
  });

  /** From the first state that is not decided yet. */
  async function decideRound(recording: Recording, untilMs: number): Promise<void> {
    const { round, state: skip } = state.tally.next;
    const folder = await mkdtemp(at('round-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    for await (const decided of campaign({ recording, folder, seed: SEED + round, states: STATES, skip })) {
      if (performance.now() > untilMs) return;
      const id = `${round}.${decided.id}`;
      const next = { round, state: state.tally.next.state + 1 };
      state.tally = { ...state.tally, next };
      await count('decided', id, isBrick(decided) ? null : decided.slot);
      if (isBrick(decided)) {
        await decided.keep(at(`${id}.img`));
        fail(id, at(`${id}.img`), decided.output);
      }
      if (next.state % DECIDED_PER_BOOT === 0) await startSample(recording);
    }
    state.tally = { ...state.tally, next: { round: round + 1, state: 0 } };
  }

  async function startSample(recording: Recording): Promise<void> {
    const number = state.tally.booted.A + state.tally.booted.B;
    const disk = at(`sample-${number}.img`);
    const id = `sample ${number}, ${await sampleDisk(recording, SEED, number, disk)}`;
    const host = journeyHost(await vmOn({ disk, partitions: recording.partitions }), IN_QEMU.patienceMs);
    try {
      await count('booted', id, await expectWell(host, id));
    } catch (error) {
      await count('booted', id, null);
      // As it was before it was started.
      const kept = at(`brick-${number}.img`);
      await sampleDisk(recording, SEED, number, kept);
      fail(id, kept, error);
    }
    await host.powerOff();
    await rm(disk);
  }

  test.runIf(KILLS > 0)(
    'killed at random moments, from the order to the confirmed slot',
    { timeout: DAY_MS },
    async () => {
      const folder = await mkdtemp(at('kills-'));
      onTestFinished(() => rm(folder, { recursive: true, force: true }));
      // Others than those that were counted before.
      const seed = SEED + 1000 * (state.tally.killed.A + state.tally.killed.B);
      for await (const { id, disk, survived } of killsDuringUpdates(imageOf, folder, seed, KILLS)) {
        try {
          await count('killed', id, await survived());
        } catch (error) {
          await count('killed', id, null);
          const kept = at(`${id.replaceAll(/[^a-z0-9]+/g, '-')}.img`);
          await cp(disk, kept);
          fail(id, kept, error);
        }
      }
      process.stdout.write(`${JSON.stringify(state.tally)}\n`);
    },
  );
});
