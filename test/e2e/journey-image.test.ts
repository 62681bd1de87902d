import { test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, journeyImages } from '../support/journey.ts';
import { expectGoodRelease } from '../support/journey-release.ts';
import { requires } from '../support/requires.ts';

requires(JOURNEY)('a whole release, from the script of the engineer to a confirmed slot', () => {
  const imageOf = journeyImages();

  test('a good one is confirmed', { timeout: JOURNEY_TIMEOUT_MS }, () => expectGoodRelease(imageOf));
});
