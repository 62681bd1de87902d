import { expect, test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, journeyImages, setOut } from '../support/journey.ts';
import { until } from '../support/journey-host.ts';
import { armedAncestor, expectAncestorUpdated } from '../support/journey-layout.ts';
import { requires } from '../support/requires.ts';

const options = { timeout: JOURNEY_TIMEOUT_MS };
requires(JOURNEY)('hosts of other kinds', () => {
  const imageOf = journeyImages();

  test('slots that are file systems: the new one is an ext4 too, GRUB boots it, it is confirmed', options, async () => {
    const { image } = await imageOf('1.1.0');
    await expectAncestorUpdated(await armedAncestor(imageOf, image), image);
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
