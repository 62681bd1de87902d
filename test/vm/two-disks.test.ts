import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';
import { armedHosts } from './armed.ts';
import type { Damage } from './damage.ts';
import { vmImages } from './guest.ts';
import { expectTrialKept } from './kept.ts';
import { VM } from './machine.ts';

/** The firmware starts from the second disk, and the kernel finds the first one first. */
const startingFrom = (disk: string): readonly string[] => [
  ...['-drive', `file=${disk},format=raw,if=none,id=second,cache=unsafe`],
  ...['-device', 'virtio-blk-pci,drive=second,request-merging=off,addr=0x1e,bootindex=0'],
];

/** The same labels, as an older disk of the same host has them that was left in the machine. */
const otherIds: Damage = async ({ disk }) => {
  for (let part = 1; part <= 6; part++) {
    await execa('sfdisk', ['--part-uuid', disk, String(part), `0123456${part}-89AB-4CDE-8F01-23456789ABCD`]);
  }
};

requires({ ...VM, commands: [...VM.commands, 'sfdisk'] })('a machine with a disk and a copy of it', () => {
  const armed = armedHosts(vmImages());

  /** `damage`: what becomes of the first disk once it is copied. */
  async function twoDisks(damage: Damage) {
    const copy = join(await temporaryFolder(), 'copy.img');
    const { withOther } = await armed({
      damage: async (machine) => {
        await execa('cp', ['--sparse=always', machine.disk, copy]);
        await damage(machine);
      },
    });
    return withOther(startingFrom(copy));
  }

  test('nobody can tell apart but GRUB, which counts in the copy: nothing is confirmed, and the host says why', async () => {
    const { host } = await twoDisks(async () => undefined);
    const { slot, cmdline } = await host.boot();
    expect([slot, cmdline]).toEqual(['B', expect.stringContaining('quantix.tries=2')]);
    await host.untilAgentAnswers();
    const why = 'two disks are the same one: GRUB read its files from /dev/vdb1, and /boot/grub is on /dev/vda1';
    expect(await host.ask('status')).toMatchObject({ status: 'error', message: why });
    const confirmed = await host.run('qx-update', 'confirm');
    expect(confirmed).toMatchObject({ exitCode: 1, output: expect.stringContaining('[BOOT_MISMATCH]') });
    expect(await host.run('qx-update', 'health')).toMatchObject({ exitCode: 1 });
    expect((await host.run('dmesg')).output).toMatch(/trial \S+ is not confirmed/);
    expect((await host.run('qx-update', 'log')).output).toContain('BOOT_MISMATCH');
    // What is mounted here is as it was before.
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: false, tries: 3 } });
  });

  test('that has the same labels only: the trial is kept, on the disk that GRUB started from', async () => {
    const journey = await twoDisks(otherIds);
    await expectTrialKept(journey);
    const { slots } = await journey.host.ask('slots');
    expect(slots).toMatchObject([{ device: '/dev/vdb2' }, { device: '/dev/vdb3', version: '1.1.0' }]);
  });
});
