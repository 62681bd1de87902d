import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, type Journey, journeyImages, setOut } from '../support/journey.ts';
import { both, bothOf, publishBoth } from '../support/journey-good.ts';
import { sha256Of } from '../support/journey-host.ts';
import { expectOneOfBoth } from '../support/journey-power.ts';
import { momentsOf } from '../support/moments.ts';
import { requires } from '../support/requires.ts';

/** QX_JOURNEY_SEED=... npx vitest run ... cuts at the same moments again. */
const seed = process.env.QX_JOURNEY_SEED ?? randomBytes(4).toString('hex');
const CUTS = 6;
/** By its version, because it was taken back before. */
const AGAIN = ['apply', '--version', '1.1.0'] as const;

requires(JOURNEY)(`power cuts (QX_JOURNEY_SEED=${seed})`, () => {
  const imageOf = journeyImages();

  /** Installed and waiting for its reboot, to the last byte. */
  async function expectArmed({ host, ...journey }: Journey, image: string): Promise<void> {
    const trial = (await host.journal())?.id;
    expect(await host.journal()).toMatchObject({ phase: 'armed', pending: true, target_version: '1.1.0' });
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: false, tries: 3 }, trial });
    expect(await host.slotSha256('B', image)).toBe(await sha256Of(image));
    expect(await bothOf({ host, ...journey })).toEqual(both('1.1.0'));
  }

  test('at any moment of an update: it boots, is the old or the new one, and converges', {
    timeout: 2 * JOURNEY_TIMEOUT_MS,
  }, async () => {
    const journey = await setOut({ first: await imageOf('1.0.0') });
    const { host } = journey;
    const { image } = await imageOf('1.1.0');
    await publishBoth(journey, '1.0.1');
    await host.boot();
    expect(await host.update('apply')).toMatchObject({ exitCode: 0 });
    await publishBoth(journey, '1.1.0', image);
    const startMs = performance.now();
    expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
    const durationMs = performance.now() - startMs;
    await expectArmed(journey, image);

    for (const [i, moment] of momentsOf(seed, CUTS).entries()) {
      const cut = `cut ${i + 1} of ${CUTS}, at ${Math.round(moment * 100)} % of ${Math.round(durationMs)} ms`;
      expect(await host.update('rollback'), cut).toMatchObject({ exitCode: 0 });
      expect(await bothOf(journey), cut).toEqual(both('1.0.1'));
      const applying = host.run('qx-update', ...AGAIN);
      await sleep(moment * durationMs);
      await host.cutPower();
      await applying;

      const { slot, cmdline, phase } = await expectOneOfBoth(journey, cut);
      if (slot === 'B') {
        // Cut after it was armed: this was the reboot that it waited for.
        expect(cmdline, cut).toContain('quantix.trial=');
        break;
      }
      const again = await host.update(...AGAIN);
      expect(again, `${cut}: ${again.output}`).toMatchObject({ exitCode: phase === 'armed' ? 3 : 4 });
      await expectArmed(journey, image);
    }
  });
});
