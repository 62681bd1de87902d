import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll } from 'vitest';
import type { MachineDisk } from '../../scripts/support/machine-disk.ts';
import type { ImageOf, Journey } from '../support/journey.ts';
import { publishBoth } from '../support/journey-good.ts';
import { journeyHost } from '../support/journey-host.ts';
import { temporaryFolder } from '../support/temp.ts';
import { addFaults, type Fault, HOOK, told } from './faults.ts';
import { installedHost } from './installed.ts';
import { logFolder } from './logs.ts';
import { IN_QEMU, SLOW, vmOn } from './machine.ts';
import type { Place } from './stuck.ts';

/** Hosts that wait for their trial, and fail in it as they are told. */

export interface ArmedOptions {
  readonly fault?: Fault;
  /** More arguments for QEMU. */
  readonly qemu?: readonly string[];
  /** What becomes of the disk while the host is switched off. */
  readonly damage?: (machine: MachineDisk) => Promise<void>;
}

export interface Armed {
  readonly journey: Journey;
  /** To start the machine without expecting a host on it. */
  readonly place: Place;
  /** The same disk, in a machine that is started with these arguments from now on. */
  withOther(more: readonly string[]): Promise<Journey>;
}

export type ArmedHosts = (options: ArmedOptions) => Promise<Armed>;

/** One host is installed and armed for all tests of a file, by the first that asks; each gets a copy of its disk. */
export function armedHosts(imageOf: ImageOf): ArmedHosts {
  const undo = new AsyncDisposableStack();
  afterAll(() => undo.disposeAsync());
  const state: { armed: Promise<Journey> | null } = { armed: null };
  const armed = (): Promise<Journey> => {
    state.armed ??= armOne(imageOf, undo);
    state.armed.catch(() => Object.assign(state, { armed: null }));
    return state.armed;
  };
  return async (options) => copyOf(await armed(), options);
}

async function copyOf(journey: Journey, { fault, qemu = [], damage }: ArmedOptions): Promise<Armed> {
  const { partitions, disk: original } = journey.host.machine;
  const disk = join(await temporaryFolder(), 'disk.img');
  await execa('cp', ['--sparse=always', original, disk]);
  await damage?.({ disk, partitions });
  const more = [...(fault === undefined ? [] : told(fault)), ...qemu];
  const withOther = async (more: readonly string[]): Promise<Journey> => ({
    ...journey,
    host: journeyHost(await vmOn({ disk, partitions }, { more }), IN_QEMU.patienceMs),
  });
  return { journey: await withOther(more), place: { disk, more, logs: await logFolder() }, withOther };
}

async function armOne(imageOf: ImageOf, undo: AsyncDisposableStack): Promise<Journey> {
  const first = await imageOf('1.0.0');
  const { image } = await imageOf('1.1.0', addFaults);
  const atEnd = (last: () => unknown): void => undo.defer(async () => void (await last()));
  return installedHost({
    first,
    settings: SLOW,
    hooks: { guests: HOOK },
    atEnd,
    publish: async (journey) => {
      await publishBoth(journey, '1.0.1');
      await publishBoth(journey, '1.1.0', image);
      return ['1.0.1', '1.1.0'];
    },
  });
}
