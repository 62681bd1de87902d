import { expect, test } from 'vitest';
import { requires } from '../support/requires.ts';
import { ACCIDENTS, chosen } from '../support/typists.ts';
import { armedHosts } from './armed.ts';
import { vmImages } from './guest.ts';
import { VM } from './machine.ts';
import { bootedWith, LISTENING, TRIAL_OF_B } from './noisy.ts';

requires(VM)('a serial line on a machine that waits for its trial', () => {
  const armed = armedHosts(vmImages({ compression: 'xz, of boot alone' }));

  for (const [name, typist] of Object.entries(ACCIDENTS)) {
    test(`${name}: the trial boots within a minute`, async () => {
      const { place } = await armed({ damage: LISTENING });
      expect(await bootedWith(place, typist)).toMatch(TRIAL_OF_B);
    });
  }

  test('a person chooses slot A: it boots past the trial', async () => {
    const { place } = await armed({ damage: LISTENING });
    expect(await bootedWith(place, chosen('a'))).toMatch(/ quantix\.slot=A quantix\.env=grubenv(?!.*trial)/);
  });
});
