import { expect } from 'vitest';
import { type JourneyHost, until } from '../../support/journey-host.ts';

/** What has to be true of a host after any power cut during its update from 1.0.0 to 1.1.0, once it has started again. */

const COMPONENTS = ['qx-node', 'qx-console', 'host-ui'] as const;

/** Phases in which nothing is under way, by the slot that runs. Never begun is none. */
const AT_REST = { A: [undefined, 'failed', 'armed'], B: ['complete'] } as const;

/** Powers it on and answers the slot that it runs. */
export async function expectWell(host: JourneyHost, what: string): Promise<'A' | 'B'> {
  const { slot } = await host.boot();
  await host.untilAgentAnswers();
  const phase = async () => (await host.journal())?.phase;
  await until(`${what}: nothing is under way`, async () => isAtRest(slot, await phase()), host.patienceMs);
  expect(await host.environment(), `${what}: both copies of the boot environment`).not.toBeNull();
  // Slots, components and audit log, against what was signed.
  const verified = await host.update('verify');
  expect(verified, `${what}: ${verified.output}`).toMatchObject({ exitCode: 0 });
  const isNew = slot === 'B' || (await phase()) === 'armed';
  const versions = await Promise.all(COMPONENTS.map((name) => host.text(`/data/versions/${name}.version`)));
  expect(versions, `${what}: all components or none`).toEqual(COMPONENTS.map(() => (isNew ? '1.1.0' : null)));
  return slot;
}

const isAtRest = (slot: 'A' | 'B', phase: string | undefined): boolean =>
  (AT_REST[slot] as readonly (string | undefined)[]).includes(phase);
