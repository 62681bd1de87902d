import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { makeExt4 } from '../../scripts/support/grub-emu.ts';
import type { HostImage } from '../../scripts/support/host-image.ts';
import { JOURNEY, JOURNEY_TIMEOUT_MS, journeyImages, setOut } from '../support/journey.ts';
import { sha256Of, until } from '../support/journey-host.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const options = { timeout: JOURNEY_TIMEOUT_MS };
const ANCESTOR_SLOT_MIB = 256;

/** The slot of an older Quantix-OS: an ext4 with the image in it, and kernel and initramfs beside it. */
async function asAncestor(first: HostImage): Promise<HostImage> {
  const folder = await temporaryFolder();
  const slot = join(folder, 'slot');
  await mkdir(join(slot, 'quantix'), { recursive: true });
  await execa('unsquashfs', ['-no-progress', '-quiet', '-dest', join(folder, 'tree'), first.image, 'boot']);
  await rename(join(folder, 'tree/boot'), join(slot, 'boot'));
  await execa('cp', ['--sparse=always', first.image, join(slot, 'quantix/system.squashfs')]);
  await makeExt4(slot, join(folder, 'slot.ext4'), ANCESTOR_SLOT_MIB, 'QUANTIX-A');
  return { ...first, image: join(folder, 'slot.ext4') };
}

requires(JOURNEY)('hosts of other kinds', () => {
  const imageOf = journeyImages();

  test('slots that are file systems: the new one is an ext4 too, GRUB boots it, it is confirmed', options, async () => {
    const { desk, server, host } = await setOut({ first: await asAncestor(await imageOf('1.0.0')) });
    const { image } = await imageOf('1.1.0');
    await desk.publish(server, { version: '1.1.0', image });
    await host.boot();
    expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
    await host.powerOff();
    const { slot, cmdline } = await host.boot();
    expect([slot, cmdline]).toEqual(['B', expect.stringContaining('root=LABEL=QUANTIX-B')]);
    const id = (await host.journal())?.id;
    expect(await host.text('/run/quantix/confirmed')).toBe(id);
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: true, tries: 0 }, trial: '' });
    const device = (await host.run('readlink', '/dev/disk/by-partlabel/QUANTIX-B')).output;
    const dump = ['debugfs', '-R', 'dump /quantix/system.squashfs /tmp/found', device];
    expect(await host.run(...(dump as [string, ...string[]]))).toMatchObject({ exitCode: 0 });
    expect(await host.sha256('/tmp/found')).toBe(await sha256Of(image));
    expect(await host.ask('current')).toMatchObject({ osVersion: '1.1.0' });
  });

  test('by itself: it installs, waits as long as a file inhibits the reboot, reboots, confirms', options, async () => {
    const settings = { auto_check: 'true', auto_apply: 'true', auto_reboot: 'true', check_interval: '3s' };
    const { desk, server, host } = await setOut({ first: await imageOf('1.0.0'), settings });
    const running = await host.boot();
    await host.run('mkdir', '-p', '/run/quantix/inhibit');
    await host.run('sh', '-c', 'echo two guests still run >/run/quantix/inhibit/drain');
    await desk.publish(server, { version: '1.1.0', image: (await imageOf('1.1.0')).image });
    const waits = async (): Promise<number> =>
      Number((await host.run('grep', '-c', 'two guests still run', '/var/log/quantix-node.log')).output);
    await until('it asked for its reboot three times', async () => (await waits()) >= 3);
    expect(await host.journal()).toMatchObject({ phase: 'armed' });
    expect(await Promise.race([running.ended, 'is up'])).toBe('is up');
    await host.run('rm', '/run/quantix/inhibit/drain');
    await running.ended;
    await host.powerOff();
    expect((await host.boot()).slot).toBe('B');
    await until('it is confirmed', async () => (await host.journal())?.phase === 'complete');
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: true, tries: 0 }, trial: '' });
  });
});
