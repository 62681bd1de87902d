import { expect, test } from 'vitest';
import { setOut } from '../support/journey.ts';
import { untilPhase } from '../support/journey-good.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { inQemu, SLOW, VM_UEFI } from './machine.ts';

requires(VM_UEFI)('a host with a UEFI, where GRUB counts on a FAT partition', () => {
  const imageOf = vmImages();

  test('a release is installed, tried and confirmed, and what GRUB and the agent wrote is whole', async () => {
    const first = await imageOf('1.0.0');
    const journey = await setOut({ first, stage: inQemu({ firmware: 'uefi' }), settings: SLOW });
    const { desk, server, host } = journey;
    await desk.publish(server, { version: '1.1.0', image: (await imageOf('1.1.0')).image });
    await host.boot();
    expect(await host.run('grep', ' /boot vfat ', '/proc/mounts')).toMatchObject({ exitCode: 0 });
    expect(await host.run('test', '-d', '/sys/firmware/efi')).toMatchObject({ exitCode: 0 });
    const applied = await host.update('apply');
    expect(applied, applied.output).toMatchObject({ exitCode: 4 });
    const before = (await host.environment())?.trial;
    await host.goDown();
    // A try that came to nothing: GRUB has counted it on its own.
    expect(await host.panic()).toBe('B');
    const { slot, cmdline } = await host.boot();
    expect([slot, cmdline]).toEqual(['B', expect.stringContaining(`quantix.trial=${before}`)]);
    await untilPhase(journey, 'complete');
    expect(await host.journal()).toMatchObject({ boot_attempts: 2 });
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: true, tries: 0 }, trial: '' });
    expect(await host.update('verify')).toMatchObject({ exitCode: 0 });
  });
});
