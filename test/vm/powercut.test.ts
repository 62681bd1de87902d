import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { expectGoodRelease } from '../support/journey-release.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { SLOW, VM } from './machine.ts';
import { type CampaignOptions, campaign, isBrick } from './powercut/campaign.ts';
import { recorder } from './powercut/recorder.ts';
import { armedTooEarly } from './powercut/tamper.ts';

/** `npm run powercut` goes on for as long as one likes, and boots what it made. */
const STATES = 500;
/** The first brick ends the search. */
const STATES_TAMPERED = 40;

requires({ ...VM, commands: [...VM.commands, 'grub-emu', 'debugfs'] })('power cuts during a whole update', () => {
  const imageOf = vmImages();
  const folder = mkdtemp(join(tmpdir(), 'quantix-powercut-'));
  afterAll(async () => rm(await folder, { recursive: true, force: true }));
  const recorded = recorder(imageOf);

  test('a good release is confirmed, and everything that reaches the disk meanwhile is recorded', async () => {
    await expectGoodRelease(imageOf, { stage: recorded.stage(await folder), settings: SLOW });
  });

  const cut = async (options: Omit<CampaignOptions, 'recording' | 'folder' | 'seed'>) =>
    campaign({
      recording: await recorded.recording(),
      folder: await mkdtemp(join(await folder, 'cut-')),
      seed: 1,
      ...options,
    });

  test('whatever was lost, GRUB boots a slot whose every byte is there', async () => {
    const found = { states: 0, A: 0, B: 0, bricks: [] as string[] };
    for await (const decided of await cut({ states: STATES })) {
      found.states += 1;
      if (decided.slot !== null) found[decided.slot] += 1;
      if (isBrick(decided)) found.bricks.push(`${decided.id}: ${decided.output}`);
    }
    process.stdout.write(`${JSON.stringify(found)}\n`);
    expect(found.bricks.slice(0, 3)).toEqual([]);
    expect([found.A > 0, found.B > 0]).toEqual([true, true]);
    expect(found.states).toBeGreaterThanOrEqual(STATES);
  });

  test('an agent that arms the slot before it is written would be found out', async () => {
    const { partitions } = await recorded.recording();
    const harmless: string[] = [];
    for await (const decided of await cut({ states: STATES_TAMPERED, ...armedTooEarly(partitions) })) {
      if (isBrick(decided)) return;
      // It lost a part without which GRUB does not take the slot.
      harmless.push(`${decided.id} boots ${decided.slot}`);
    }
    expect.fail(`no brick among ${harmless.length} states: ${harmless.join('; ')}`);
  });
});
