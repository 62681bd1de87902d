import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect } from 'vitest';
import { makeExt4 } from '../../scripts/support/grub-emu.ts';
import type { HostImage } from '../../scripts/support/host-image.ts';
import { type ImageOf, type Journey, type JourneyOptions, setOut } from './journey.ts';
import { untilPhase } from './journey-good.ts';
import { sha256Of } from './journey-host.ts';
import { temporaryFolder } from './temp.ts';

/** Hosts whose slots are file systems, as an older Quantix-OS made them. */

const ANCESTOR_SLOT_MIB = 256;

/** The slot of an older Quantix-OS: an ext4 with the image in it, and kernel and initramfs beside it. */
export async function asAncestor(first: HostImage): Promise<HostImage> {
  const folder = await temporaryFolder();
  const slot = join(folder, 'slot');
  await mkdir(join(slot, 'quantix'), { recursive: true });
  await execa('unsquashfs', ['-no-progress', '-quiet', '-dest', join(folder, 'tree'), first.image, 'boot']);
  await rename(join(folder, 'tree/boot'), join(slot, 'boot'));
  await execa('cp', ['--sparse=always', first.image, join(slot, 'quantix/system.squashfs')]);
  await makeExt4(slot, join(folder, 'slot.ext4'), ANCESTOR_SLOT_MIB, 'QUANTIX-A');
  return { ...first, image: join(folder, 'slot.ext4') };
}

/** Release 1.1.0 is armed on such a host, which is switched off. */
export async function armedAncestor(
  imageOf: ImageOf,
  image: string,
  options: Omit<JourneyOptions, 'first'> = {},
): Promise<Journey> {
  const journey = await setOut({ first: await asAncestor(await imageOf('1.0.0')), ...options });
  const { desk, server, host } = journey;
  await desk.publish(server, { version: '1.1.0', image });
  await host.boot();
  const applied = await host.update('apply');
  expect(applied, applied.output).toMatchObject({ exitCode: 4 });
  await host.powerOff();
  return journey;
}

/** The new slot is a file system too, GRUB boots it, and it is confirmed. */
export async function expectAncestorUpdated(journey: Journey, image: string): Promise<void> {
  const { host } = journey;
  const { slot, cmdline } = await host.boot();
  expect([slot, cmdline]).toEqual(['B', expect.stringContaining('root=LABEL=QUANTIX-B')]);
  await untilPhase(journey, 'complete');
  const id = (await host.journal())?.id;
  expect(await host.text('/run/quantix/confirmed')).toBe(id);
  expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: true, tries: 0 }, trial: '' });
  const device = (await host.run('readlink', '-f', '/dev/disk/by-partlabel/QUANTIX-B')).output;
  const dump = await host.run('debugfs', '-R', 'dump /quantix/system.squashfs /tmp/found', device);
  expect(dump).toMatchObject({ exitCode: 0 });
  expect(await host.sha256('/tmp/found')).toBe(await sha256Of(image));
  expect(await host.ask('current')).toMatchObject({ osVersion: '1.1.0' });
}
