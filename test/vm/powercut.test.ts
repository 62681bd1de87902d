import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, expect, test } from 'vitest';
import type { MachineDisk } from '../../scripts/support/machine-disk.ts';
import { setOut } from '../support/journey.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { type Recording, recordedIn, SLOW, VM } from './machine.ts';
import { type Campaign, type CampaignOptions, runCampaign } from './powercut/campaign.ts';
import { armedTooEarly } from './powercut/tamper.ts';

/** More of them, and other ones: `QX_SEED=7 QX_DENSITY=4 QX_EVERY=1`. One every 0.15 s. */
const setting = (name: string, standard: number): number => Number(process.env[name] ?? standard);
const [SEED, DENSITY, EVERY] = [setting('QX_SEED', 1), setting('QX_DENSITY', 1), setting('QX_EVERY', 4)];

requires({ ...VM, commands: [...VM.commands, 'grub-emu', 'debugfs'] })('power cuts during a whole update', () => {
  const imageOf = vmImages();
  const folder = mkdtemp(join(tmpdir(), 'quantix-powercut-'));
  afterAll(async () => rm(await folder, { recursive: true, force: true }));
  const recorded = {} as { recording: Recording; machine: MachineDisk; images: Record<'A' | 'B', string> };

  test('an update is recorded, from power on to a confirmed slot', async () => {
    const recording: Recording = { base: join(await folder, 'base.img'), logs: [] };
    const first = await imageOf('1.0.0');
    const { image } = await imageOf('1.1.0');
    const { desk, server, host } = await setOut({ first, stage: recordedIn(recording), settings: SLOW });
    await desk.publish(server, { version: '1.1.0', image });
    await host.boot();
    expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
    await host.goDown();
    expect((await host.boot()).slot).toBe('B');
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: true }, trial: '' });
    await host.powerOff();
    Object.assign(recorded, { recording, machine: host.machine, images: { A: first.image, B: image } });
  });

  const campaign = async (name: string, options: Partial<CampaignOptions>): Promise<Campaign> => {
    const { recording, machine, images } = recorded;
    const own = join(await folder, name);
    await mkdir(own);
    const disk = join(own, 'disk.img');
    await execa('cp', ['--sparse=always', recording.base, disk]);
    const { boot, A, B } = machine.partitions;
    const slots = { A: { partition: A, image: images.A }, B: { partition: B, image: images.B } };
    return runCampaign({
      folder: own,
      disk,
      boot,
      slots,
      logs: recording.logs,
      seed: SEED,
      density: DENSITY,
      ...options,
    });
  };

  test('whatever was lost, GRUB boots a slot whose every byte is there', { timeout: 3 * 3_600_000 }, async () => {
    const { states, boots, bricks } = await campaign('all', { every: EVERY });
    process.stdout.write(`${states} states: ${boots.A} boot slot A, ${boots.B} slot B, ${bricks.length} bricks\n`);
    expect(bricks.slice(0, 3)).toEqual([]);
    expect(states).toBeGreaterThan(1000);
    expect([boots.A > 0, boots.B > 0]).toEqual([true, true]);
  });

  test('an agent that arms the slot before it is written would be found out', async () => {
    const { bricks } = await campaign('tampered', { every: 4, tamper: (log) => armedTooEarly(recorded.machine, log) });
    expect(bricks.length).toBeGreaterThan(0);
  });
});
