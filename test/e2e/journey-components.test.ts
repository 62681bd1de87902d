import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, journeyImages, setOut } from '../support/journey.ts';
import { both, bothOf, publishBoth } from '../support/journey-good.ts';
import { until } from '../support/journey-host.ts';
import { requires } from '../support/requires.ts';

const options = { timeout: JOURNEY_TIMEOUT_MS };

requires(JOURNEY)('a release of components alone', () => {
  const imageOf = journeyImages();

  test('restarts the service; one that dies is undone and remembered', options, async () => {
    const journey = await setOut({ first: await imageOf('1.0.0') });
    const { desk, server, host } = journey;
    await publishBoth(journey, '1.0.1');
    const running = await host.boot();
    await until('the console runs', async () => (await host.pidOf('quantix-console')) !== '');
    const before = await host.pidOf('quantix-console');
    expect(await host.update('plan')).toMatchObject({ exitCode: 0, output: expect.stringContaining('no reboot') });
    expect(await host.update('apply')).toMatchObject({ exitCode: 0 });
    expect(await bothOf(journey)).toEqual(both('1.0.1'));
    const pid = await host.pidOf('quantix-console');
    expect(pid).not.toBe(before);
    expect(await host.ask('status')).toMatchObject({ status: 'complete', currentVersion: '1.0.1' });
    expect(await host.update('apply')).toMatchObject({ exitCode: 3 });

    // It says its version, which is how the launcher tries it, and ends when it has to work.
    const ours = await readFile('openrc/qx-console', 'utf8');
    const dying = ours.replace(/^VERSION=.*$/m, 'VERSION=1.0.2').replace(/^while :; do$/m, 'exit 1\nwhile :; do');
    const components = { 'qx-console': await desk.script('dying', dying), 'host-ui': await desk.page('1.0.2') };
    await desk.publish(server, { version: '1.0.2', components });
    const refused = await host.update('apply');
    expect(refused).toMatchObject({ exitCode: 1, output: expect.stringContaining('was put back') });
    expect(await bothOf(journey)).toEqual(both('1.0.1'));
    expect(await host.run('rc-service', 'quantix-console', 'status')).toMatchObject({ exitCode: 0 });
    expect(await host.journal()).toMatchObject({ phase: 'failed' });
    expect(await host.memory()).toMatchObject({ committed: { version: '1.0.1' }, bad: [{ version: '1.0.2' }] });
    expect(await host.update('check')).toMatchObject({ exitCode: 5 });
    expect(await Promise.race([running.ended, 'is up'])).toBe('is up');
  });
});
