import { expect, test } from 'vitest';
import { type Journey, setOut } from '../support/journey.ts';
import { armedJourney, expectTakenBackByHand } from '../support/journey-fallback.ts';
import { both, bothOf, publishBoth, untilPhase } from '../support/journey-good.ts';
import { sha256Of } from '../support/journey-host.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { IN_QEMU, SLOW, VM } from './machine.ts';

requires(VM)('an update', () => {
  const imageOf = vmImages();
  const outfit = async () => ({ first: await imageOf('1.0.0'), stage: IN_QEMU, settings: SLOW });

  test('the next release comes before the reboot: it takes the place of the first one, and is kept', async () => {
    const journey = await armedJourney(await outfit(), (await imageOf('1.1.0')).image);
    const { host } = journey;
    const { image } = await imageOf('1.2.0');
    await publishBoth(journey, '1.2.0', image);
    expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
    expect(await host.journal()).toMatchObject({ phase: 'armed', previous_version: '1.0.1', target_version: '1.2.0' });
    expect(await host.slotSha256('B', image)).toBe(await sha256Of(image));
    await host.goDown();
    const { slot, cmdline } = await host.boot();
    expect([slot, cmdline]).toEqual(['B', expect.stringContaining(`quantix.trial=${(await host.journal())?.id}`)]);
    await untilPhase(journey, 'complete');
    expect(await bothOf(journey)).toEqual(both('1.2.0'));
    expect(await host.memory()).toMatchObject({ committed: { version: '1.2.0' }, bad: [] });
    const { entries } = await host.ask('history');
    expect(entries).toMatchObject([
      { version: '1.2.0', previous_version: '1.0.1', result: 'complete' },
      { version: '1.1.0', result: 'failed', code: 'SUPERSEDED' },
      { version: '1.0.1', result: 'complete' },
    ]);
  });

  test('an operator takes back what was confirmed: components now, the slot with the reboot', async () => {
    const journey = await armedJourney(await outfit(), (await imageOf('1.1.0')).image);
    await journey.host.goDown();
    await journey.host.boot();
    await untilPhase(journey, 'complete');
    await expectTakenBackByHand(journey);
  });

  test('a host that cannot write refuses before it touches the slot, and takes the same release later', async () => {
    const journey = await setOut(await outfit());
    const { host } = journey;
    await publishBoth(journey, '1.1.0', (await imageOf('1.1.0')).image);
    await host.boot();
    const before = await slotStart(journey);
    const expectRefused = async (code: string): Promise<void> => {
      const { exitCode, output } = await host.update('apply');
      expect(output).toContain(`[${code}]`);
      expect(exitCode).toBe(code === 'NO_SPACE' ? 8 : 1);
      expect(await host.environment()).toMatchObject({ order: ['A', 'B'], A: { ok: true }, trial: '' });
      expect(await slotStart(journey)).toBe(before);
      expect(await bothOf(journey)).toEqual(both(null));
      expect((await host.memory())?.bad ?? []).toEqual([]);
    };
    for (const [path, code] of [
      ['/boot', 'BOOT_ENV_READ_ONLY'],
      ['/data', 'IO'],
    ] as const) {
      expect(await host.run('mount', '-o', 'remount,ro', path)).toMatchObject({ exitCode: 0 });
      await expectRefused(code);
      expect(await host.run('mount', '-o', 'remount,rw', path)).toMatchObject({ exitCode: 0 });
    }
    await host.run('sh', '-c', 'cat /dev/zero >/data/ballast');
    await expectRefused('NO_SPACE');
    await host.run('rm', '/data/ballast');
    expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: false, tries: 3 } });
  });

  const slotStart = async ({ host }: Journey): Promise<string> =>
    (await host.run('sh', '-c', 'head -c 16777216 /dev/disk/by-partlabel/QUANTIX-B | sha256sum')).output;

  test('a program of the health gate that hung before as well is no reason to go back', async () => {
    const hangs = '#!/bin/sh\nexec sleep 1000000\n';
    const journey = await setOut({ ...(await outfit()), hooks: { guests: hangs } });
    const { host } = journey;
    await publishBoth(journey, '1.1.0', (await imageOf('1.1.0')).image);
    await host.boot();
    expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
    expect(await host.run('qx-update', 'health')).toMatchObject({ output: expect.stringMatching(/guests +no/) });
    await host.goDown();
    expect((await host.boot()).slot).toBe('B');
    await untilPhase(journey, 'complete');
    expect(await host.environment()).toMatchObject({ order: ['B', 'A'], B: { ok: true, tries: 0 }, trial: '' });
  });

  test('newer components in /data that cannot run: the own ones of the image do', async () => {
    const journey = await setOut(await outfit());
    const { host } = journey;
    await host.boot();
    const stump = 'head -c 8192 /usr/lib/quantix/bin/qx-node >/data/bin/qx-node && chmod 755 /data/bin/qx-node';
    await host.run('sh', '-c', `${stump} && echo 9.0.0 >/data/versions/qx-node.version`);
    await host.run('sh', '-c', 'echo noise >/data/bin/qx-console && echo 9.0.0 >/data/versions/qx-console.version');
    await host.run('sync');
    await host.cutPower();
    expect((await host.boot()).slot).toBe('A');
    await host.untilAgentAnswers();
    expect((await host.run('readlink', '/run/quantix/bin/qx-node')).output).toBe('/usr/lib/quantix/bin/qx-node');
    expect((await host.run('readlink', '/run/quantix/bin/qx-console')).output).toBe('/usr/lib/quantix/bin/qx-console');
    expect(await host.text('/data/versions/qx-node.bad')).toBe('9.0.0');
    expect(await host.ask('status')).toMatchObject({ currentVersion: '1.0.0' });
    expect(await host.run('rc-service', 'quantix-console', 'status')).toMatchObject({ exitCode: 0 });
  });
});
