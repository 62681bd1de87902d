import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, type Journey, type JourneyOptions, journeyImages } from '../support/journey.ts';
import { armedJourney, expectFallenBack, expectTakenBackByHand, ONLY_A } from '../support/journey-fallback.ts';
import { both, bothOf, untilPhase } from '../support/journey-good.ts';
import { requires } from '../support/requires.ts';

const options = { timeout: JOURNEY_TIMEOUT_MS };

requires(JOURNEY)('the way back', () => {
  const imageOf = journeyImages();

  const armed = async (image: string, options: Omit<JourneyOptions, 'first'> = {}): Promise<Journey> =>
    armedJourney({ first: await imageOf('1.0.0'), ...options }, image);

  test('three panics: the fourth boot is the old slot; the release comes back when asked for', options, async () => {
    const journey = await armed((await imageOf('1.1.0')).image);
    const { host } = journey;
    await host.powerOff();
    expect([await host.panic(), await host.panic(), await host.panic()]).toEqual(['B', 'B', 'B']);
    await expectFallenBack(journey);
    const again = await host.update('apply', '--version', '1.1.0');
    expect(again, again.output).toMatchObject({ exitCode: 4 });
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: false, tries: 3 } });
    expect(await bothOf(journey)).toEqual(both('1.1.0'));
  });

  test(
    'an agent that does not run: the health gate gives the slot its second try, and then gives it up',
    options,
    async () => {
      const { image } = await imageOf('1.1.0-agent', async (tree) => {
        await writeFile(join(tree, 'usr/lib/quantix/node-run'), '#!/bin/sh\nexit 1\n');
      });
      const journey = await armed(image, { settings: { health_timeout: '5s', health_attempts: '2' } });
      const { host } = journey;
      await host.powerOff();
      expect([await host.bootUntilItEnds(), await host.bootUntilItEnds()]).toEqual(['B', 'B']);
      await expectFallenBack(journey);
      expect(await host.journal()).toMatchObject({ boot_attempts: 2, error: { code: 'UNHEALTHY' } });
    },
  );

  test('settings that nothing of ours can read: the deadline ends each of three tries', options, async () => {
    const { image } = await imageOf('1.1.0-settings', async (tree) => {
      await writeFile(join(tree, 'etc/limiquantix/node.d/90-slip.yaml'), 'updates:\n  auto_aply: true\n');
    });
    const journey = await armed(image, { boot: { deadline_s: 5, grace_s: 30 } });
    const { host } = journey;
    await host.powerOff();
    for (let boot = 1; boot <= 3; boot++) expect(await host.bootUntilItEnds()).toBe('B');
    await expectFallenBack(journey);
    const detail = expect.stringContaining('not confirmed within 5 s (deadline_s');
    expect(await host.journal()).toMatchObject({ error: { code: 'UNHEALTHY', detail } });
  });

  test('an operator takes back what was confirmed: components now, the slot with the next boot', options, async () => {
    const journey = await armed((await imageOf('1.1.0')).image);
    const { host } = journey;
    await host.powerOff();
    await host.boot();
    await untilPhase(journey, 'complete');
    await expectTakenBackByHand(journey);
  });

  test('an operator takes back what waits for its reboot: nothing of it ever boots', options, async () => {
    const journey = await armed((await imageOf('1.1.0')).image);
    const { host } = journey;
    expect(await host.run('qx-update', 'rollback')).toMatchObject({ exitCode: 0 });
    expect(await bothOf(journey)).toEqual(both('1.0.1'));
    expect(await host.environment()).toEqual({ ...ONLY_A, failed: '' });
    await host.powerOff();
    const { slot, cmdline } = await host.boot();
    expect([slot, cmdline.includes('quantix.trial')]).toEqual(['A', false]);
    expect(await host.ask('status')).toMatchObject({ status: 'idle', currentVersion: '1.0.1' });
  });
});
