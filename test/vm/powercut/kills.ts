import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { Machine } from '../../../scripts/support/machine.ts';
import type { MachineDisk } from '../../../scripts/support/machine-disk.ts';
import type { Qemu } from '../../../scripts/support/vm/qemu.ts';
import type { ImageOf, Stage } from '../../support/journey.ts';
import { journeyHost } from '../../support/journey-host.ts';
import { expectGoodRelease } from '../../support/journey-release.ts';
import { IN_QEMU, inQemu, SLOW, vmOn } from '../machine.ts';
import { seededRandom } from './crash-states.ts';
import { expectWell } from './expect-well.ts';

/** QEMU, killed at random moments of a whole update, from the first boot to the confirmed slot. */

export interface Kill {
  readonly id: string;
  /** As the kill left it. */
  readonly disk: string;
  /** Starts it and answers the slot that it runs. @throws Error when it is neither the old host nor the new one */
  survived(): Promise<'A' | 'B'>;
}

/** On average. */
const APART_MS = 10_000;

/** `folder` has to have room for the disks of one update. */
export async function* killsDuringUpdates(
  imageOf: ImageOf,
  folder: string,
  seed: number,
  count: number,
): AsyncGenerator<Kill> {
  const random = seededRandom(seed);
  for (let made = 0; made < count; ) {
    for (const { disk, partitions, afterMs } of await disksOfKills(imageOf, folder, random)) {
      const id = `kill ${made} after ${afterMs} ms`;
      if (made < count) yield { id, disk, survived: () => expectSurvived({ disk, partitions }, id) };
      made += 1;
      await rm(disk, { force: true });
    }
  }
}

async function expectSurvived(machine: MachineDisk, id: string): Promise<'A' | 'B'> {
  const host = journeyHost(await vmOn(machine), IN_QEMU.patienceMs);
  const slot = await expectWell(host, id);
  await host.powerOff();
  return slot;
}

interface Killed extends MachineDisk {
  readonly afterMs: number;
}

/**
 * One update is enough for many kills: a process that is stopped leaves at that moment what it would leave killed, calls into
 * the kernel that were under way included. Its disk is copied, and it goes on.
 */
async function disksOfKills(imageOf: ImageOf, folder: string, random: () => number): Promise<readonly Killed[]> {
  const now: { running: { qemu: Qemu; machine: MachineDisk } | null; isOver: boolean } = {
    running: null,
    isOver: false,
  };
  const make: Stage['make'] = async (options) => {
    const machine: Machine = await inQemu({
      started: (qemu) => {
        now.running = { qemu, machine };
        void qemu.ended.then(() => Object.assign(now, { running: null }));
      },
    }).make(options);
    return machine;
  };
  const killAgainAndAgain = async (): Promise<readonly Killed[]> => {
    const startMs = performance.now();
    const kills: Killed[] = [];
    for (;;) {
      await sleep(random() * 2 * APART_MS);
      if (now.isOver) return kills;
      if (now.running === null) continue;
      const { qemu, machine } = now.running;
      const disk = join(folder, `kill-${kills.length}.img`);
      const afterMs = Math.round(performance.now() - startMs);
      await whileStopped(qemu.pid, () => execa('cp', ['--sparse=always', machine.disk, disk]));
      kills.push({ disk, partitions: machine.partitions, afterMs });
    }
  };
  const killing = killAgainAndAgain();
  try {
    await expectGoodRelease(imageOf, { stage: { ...IN_QEMU, make }, settings: SLOW });
  } finally {
    now.isOver = true;
    await killing;
  }
  return killing;
}

async function whileStopped(pid: number, act: () => Promise<unknown>): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  try {
    await act();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}
