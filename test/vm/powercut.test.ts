import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, expect, test } from 'vitest';
import { expectGoodRelease } from '../support/journey-release.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { type Recording, recordedIn, SLOW, VM } from './machine.ts';
import { type Campaign, type CampaignOptions, runCampaign } from './powercut/campaign.ts';
import { armedTooEarly } from './powercut/tamper.ts';

/** More of them, and other ones: `QX_SEED=7 QX_DENSITY=16 QX_EVERY=1`. Some ten a second. */
const setting = (name: string, standard: number): number => Number(process.env[name] ?? standard);
const [SEED, DENSITY, EVERY] = [setting('QX_SEED', 1), setting('QX_DENSITY', 1), setting('QX_EVERY', 2)];

requires({ ...VM, commands: [...VM.commands, 'grub-emu', 'debugfs'] })('power cuts during a whole update', () => {
  const imageOf = vmImages();
  const folder = mkdtemp(join(tmpdir(), 'quantix-powercut-'));
  afterAll(async () => rm(await folder, { recursive: true, force: true }));
  const recording: Recording = { base: '', logs: [], partitions: null };
  const place = async () => {
    const { partitions } = recording;
    if (partitions === null) throw new Error('nothing was recorded');
    return { partitions, images: { A: (await imageOf('1.0.0')).image, B: (await imageOf('1.1.0')).image } };
  };

  test('a good release is confirmed, and everything that reaches the disk meanwhile is recorded', async () => {
    // Anew when it is tried once more.
    Object.assign(recording, { base: join(await folder, 'base.img'), logs: [] });
    await expectGoodRelease(imageOf, { stage: recordedIn(recording), settings: SLOW });
  });

  const campaign = async (name: string, options: Partial<CampaignOptions>): Promise<Campaign> => {
    const { partitions, images } = await place();
    const own = join(await folder, name);
    await mkdir(own);
    const disk = join(own, 'disk.img');
    await execa('cp', ['--sparse=always', recording.base, disk]);
    const { boot, A, B } = partitions;
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
    const { partitions } = await place();
    const tamper: CampaignOptions['tamper'] = (log) => armedTooEarly(partitions, log);
    const { bricks } = await campaign('tampered', { every: 8, tamper, stopsAtBrick: true });
    expect(bricks).toHaveLength(1);
  });
});
