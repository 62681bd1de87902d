import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { confirm } from '../../src/agent/confirm.ts';
import type { Host } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { recover } from '../../src/agent/recover.ts';
import { rollback } from '../../src/agent/rollback.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { TestHost } from '../support/agent-host.ts';
import { rebootInto } from '../support/agent-machine.ts';
import { cutEverywhere, fullRelease, type Journey, STARTS } from '../support/agent-powercut.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('T33 the power goes while', () => {
  const bench = agentBench();
  const releases = async () => [await fullRelease(bench, '2.0.0')];
  const installed = async (host: TestHost) => void (await install(host, {}, {}));
  const onTrial = async (host: TestHost) => {
    await installed(host);
    await rebootInto(host.root, bench.known());
  };
  const confirmed = async (host: TestHost) => {
    await onTrial(host);
    await confirm(host);
  };
  const failedThreeTimes = async (host: TestHost) => {
    await installed(host);
    for (let boot = 0; boot < 4; boot++) await rebootInto(host.root, bench.known());
  };
  /** All files are swapped and the first service never comes back: nobody is left to finish it. */
  const stuck = async (host: TestHost) => {
    await new Promise<void>((atRestart) => {
      const restart = () => new Promise<void>(() => atRestart());
      void install({ ...host, services: { ...host.services, restart } }, {}, {});
    });
    await rm(join(host.root, 'run'), { recursive: true });
  };
  const takeBack = (host: Host) => rollback(host, 'asked for');
  const supersede: Journey = {
    releases: async () => [await fullRelease(bench, '2.0.0'), await fullRelease(bench, '3.0.0')],
    prepare: (host) => install(host, { version: '2.0.0' }, {}),
    act: (host) => install(host, {}, {}),
  };

  const JOURNEYS: readonly (readonly [string, number, Journey])[] = [
    ['a healthy trial is confirmed', 7, { releases, prepare: onTrial, act: confirm }],
    ['an unhealthy trial is given up', 6, { releases, prepare: onTrial, act: confirm, socketAnswers: false }],
    ['a complete update is rolled back', 25, { releases, prepare: confirmed, act: takeBack }],
    ['an armed update is rolled back', 25, { releases, prepare: installed, act: takeBack }],
    ['three failed boots are cleaned up', 25, { releases, prepare: failedThreeTimes, act: recover }],
    ['an interrupted update is undone', 15, { releases, prepare: stuck, act: recover }],
    ['an armed update makes way for another', 120, supersede],
  ];

  describe.each(JOURNEYS)('%s:', (_name, atLeast, journey) => {
    test.each(STARTS)(
      'one or the other after each effect when %s, and the next install converges',
      async (start) => {
        expect(await cutEverywhere(bench, journey, start)).toBeGreaterThanOrEqual(atLeast);
      },
      240_000,
    );
  });
});
