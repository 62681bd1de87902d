import { expect, test } from 'vitest';
import { requires } from '../support/requires.ts';
import { noise, withoutEnd } from '../support/typists.ts';
import { armedHosts } from './armed.ts';
import { COPIES, copies } from './damage.ts';
import { vmImages } from './guest.ts';
import { expectArmedAgainAndKept } from './kept.ts';
import { VM } from './machine.ts';
import { bootedWith, LISTENING, TRIAL_OF_B } from './noisy.ts';
import { expectWayBack } from './scenario.ts';

requires(VM)('a trial on which nobody can count', () => {
  const armed = armedHosts(vmImages());

  test('a service hangs before anything is mounted: slot A boots again', () =>
    expectWayBack(armed, {
      what: 'a service hangs',
      fault: 'service-hangs',
      boots: 3,
    }));

  test('noise comes in on the serial line without end: the trial boots within a minute', async () => {
    const { place } = await armed({ damage: LISTENING });
    expect(await bootedWith(place, withoutEnd(noise))).toMatch(TRIAL_OF_B);
  });

  test('both copies of the boot environment are zeros: slot A boots, arms the trial again, and it is kept', async () => {
    const { journey } = await armed({ damage: copies(COPIES, (block) => new Uint8Array(block.length)) });
    await expectArmedAgainAndKept(journey);
  });
});
