import { basename } from 'node:path';
import { expect } from 'vitest';
import { makeMachine } from '../../scripts/support/machine.ts';
import { putFile } from '../../scripts/support/machine-disk.ts';
import { becomeBootable } from '../../scripts/support/vm/disk.ts';
import { type Journey, type JourneyOptions, type Stage, setOut } from '../support/journey.ts';
import { journeyHost } from '../support/journey-host.ts';
import { IN_QEMU, type Setup, vmOn } from './machine.ts';

/**
 * Hosts that were installed without QEMU, in which it takes minutes: in namespaces, from offline bundles, since the server has
 * another address there. What that shows, the journeys in test/e2e show; QEMU then starts the disk that came of it.
 */

const IN_NAMESPACES: Stage = {
  make: (options) => makeMachine(options, { isAlone: true }),
  outside: IN_QEMU.outside,
  patienceMs: 60_000,
};

export interface Installed extends Omit<JourneyOptions, 'stage'> {
  /** Publishes releases, and answers their versions, the oldest first; the last one brings an image. */
  readonly publish: (journey: Journey) => Promise<readonly string[]>;
  readonly setup?: Setup;
}

/** The host has installed all of them, waits for its reboot, and is switched off. */
export async function installedHost({ publish, setup, ...options }: Installed): Promise<Journey> {
  const journey = await setOut({ ...options, stage: IN_NAMESPACES });
  const { folder, desk, host } = journey;
  const { machine } = host;
  const versions = await publish(journey);
  const bundles = await Promise.all(versions.map((version) => desk.bundle(version)));
  for (const bundle of bundles) await putFile(machine, machine.partitions.data, bundle, basename(bundle));
  await host.boot();
  for (const [i, bundle] of bundles.entries()) {
    const ran = await host.update('install', `/data/${basename(bundle)}`);
    expect(ran, ran.output).toMatchObject({ exitCode: i === bundles.length - 1 ? 4 : 0 });
  }
  await host.goDown();
  await becomeBootable(machine, folder);
  return { ...journey, host: journeyHost(await vmOn(machine, setup), IN_QEMU.patienceMs, options.atEnd) };
}
