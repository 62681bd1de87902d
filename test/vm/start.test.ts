import { expect, test } from 'vitest';
import { setOut } from '../support/journey.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { IN_QEMU, SLOW, VM } from './machine.ts';

requires(VM)('a host whose process 1 is the init of OpenRC', () => {
  const imageOf = vmImages({ init: 'openrc' });

  test('it starts all that it should, reboots when qx-update says so, and comes back after a power cut', async () => {
    const { host } = await setOut({ first: await imageOf('1.0.0'), stage: IN_QEMU, settings: SLOW });
    expect((await host.boot()).slot).toBe('A');
    expect(await host.text('/proc/1/comm')).toMatch(/^(openrc-)?init$/);
    expect((await host.run('readlink', '/proc/1/exe')).output).toBe('/usr/bin/openrc-init');
    for (const service of ['quantix-boot', 'quantix-node', 'quantix-console', 'local']) {
      expect(await host.run('rc-service', service, 'status')).toMatchObject({ exitCode: 0 });
    }
    const talkative = await host.run('sh', '-c', 'seq 1 20000; printf "\\303\\244\\n"; exit 7');
    expect([talkative.exitCode, talkative.output.split('\n').slice(-2)]).toEqual([7, ['20000', 'ä']]);
    await host.untilAgentAnswers();
    await host.goDown();
    expect((await host.boot()).slot).toBe('A');
    await host.run('sh', '-c', 'echo saved >/data/saved; sync; echo lost >/data/lost');
    await host.cutPower();
    expect((await host.boot()).slot).toBe('A');
    expect([await host.text('/data/saved'), await host.text('/data/lost')]).toEqual(['saved', null]);
  });
});
