import { type BootState, sameBoot } from '../core/boot.ts';
import { type PendingSlot, restored } from '../core/boot-verdict.ts';
import { asQxError, QxError } from '../errors.ts';
import { decodeBoot, encodeBoot } from '../format/grubenv.ts';
import type { Disks } from '../ports/disks.ts';
import type { Boot, Booted, EnvCopy } from '../ports.ts';
import { bootPlaceTrouble } from './disks.ts';

/**
 * The two copies of the boot environment. One is always whole: they are never both being written, and no change begins
 * before both are equal. The copy that GRUB used in this boot is the truth, because GRUB counts in that one only.
 */

interface Machine {
  readonly boot: Boot;
  readonly disks: Disks;
}

interface BootEnv {
  readonly booted: Booted;
  /** Null when neither copy is valid. */
  readonly state: BootState | null;
  /** The copy that is believed, and written first. */
  readonly primary: EnvCopy;
  readonly bytes: Readonly<Record<EnvCopy, Uint8Array | null>>;
}

const otherCopy = (copy: EnvCopy): EnvCopy => (copy === 'grubenv' ? 'grubenv.bak' : 'grubenv');

async function loadBootEnv({ boot }: Pick<Machine, 'boot'>): Promise<BootEnv> {
  const booted = await boot.booted();
  const bytes = { grubenv: await boot.read('grubenv'), 'grubenv.bak': await boot.read('grubenv.bak') };
  const valid = (copy: EnvCopy): BootState | null => (bytes[copy] === null ? null : decodeBoot(bytes[copy]));
  // Where GRUB names no copy, the one that it will prefer next time.
  const preferred = booted.copy ?? 'grubenv';
  const primary = valid(preferred) === null && valid(otherCopy(preferred)) !== null ? otherCopy(preferred) : preferred;
  return { booted, state: valid(primary), primary, bytes };
}

/** GRUB named the copy that it read, and here is none: what GRUB reads lies elsewhere, and nothing may be made in its place. */
function missing({ booted, bytes }: BootEnv): QxError | null {
  if (booted.copy === null || bytes.grubenv !== null || bytes['grubenv.bak'] !== null) return null;
  const detail = `GRUB read ${booted.copy} when it started this boot, and /boot/grub has none: is /boot mounted?`;
  return new QxError('BOOT_MISSING', detail, { next: 'mount /boot, then repeat this' });
}

/** A trial is counted before its kernel is loaded: an environment in which it was not is another one than GRUB's. */
function uncounted({ booted, state }: BootEnv): QxError | null {
  const { trial, triesLeft, slot } = booted;
  if (trial === '' || triesLeft === null || slot === null || state?.trial !== trial) return null;
  const { tries } = state[slot];
  if (tries === triesLeft) return null;
  const detail = `GRUB left ${triesLeft} tries to slot ${slot}, and the environment in /boot/grub says ${tries}: it is not the one that GRUB wrote`;
  return new QxError('BOOT_MISMATCH', detail, {
    next: 'look for a second disk with lsblk; mount the /boot that GRUB reads',
  });
}

const trouble = async (machine: Machine, env: BootEnv): Promise<QxError | null> =>
  (await bootPlaceTrouble(machine)) ?? missing(env) ?? uncounted(env);

/** Why nothing may be written to /boot/grub; null while it is what GRUB reads, as far as anybody can tell. */
export const bootTrouble = async (machine: Machine): Promise<QxError | null> =>
  trouble(machine, await loadBootEnv(machine));

/** Writes nothing. */
export const currentBoot = async (machine: Pick<Machine, 'boot'>): Promise<BootState | null> =>
  (await loadBootEnv(machine)).state;

/**
 * After a start: both copies valid, equal, and as we would have written them. Lost ones are written anew from what runs and
 * what the journal knows. A system that our GRUB did not start touches nothing, nor does one whose /boot is not the one that GRUB reads.
 */
export async function settleBoot(
  machine: Machine,
  pending: PendingSlot,
): Promise<{ readonly state: BootState | null; readonly booted: Booted }> {
  const env = await loadBootEnv(machine);
  const { booted } = env;
  if (booted.slot === null || (await trouble(machine, env)) !== null) return { state: env.state, booted };
  const state = env.state ?? restored(pending, booted.slot);
  await repair(machine, env, state);
  return { state, booted };
}

/** @throws QxError BOOT_ENV_INVALID when there is no valid state to change, or what was written reads back differently */
export async function changeBoot(machine: Machine, change: (state: BootState) => BootState): Promise<BootState> {
  const { env, state } = await repaired(machine);
  const next = change(state);
  if (!sameBoot(next, state)) await writeBoth(machine, env, next);
  return next;
}

/**
 * Writes both copies as they are. Hours of work that end in a slot which cannot be armed are better refused at their start.
 * @throws QxError BOOT_ENV_READ_ONLY, or as `changeBoot`
 */
export async function expectWritableBoot(machine: Machine): Promise<void> {
  try {
    const { env, state } = await repaired(machine);
    await writeBoth(machine, env, state);
  } catch (cause) {
    if (cause instanceof QxError) throw cause;
    throw new QxError('BOOT_ENV_READ_ONLY', `the boot environment cannot be written: ${asQxError(cause).message}`, {
      cause,
      next: 'mount -o remount,rw /boot; when that fails, look for errors of its disk with dmesg',
    });
  }
}

async function repaired(machine: Machine): Promise<{ readonly env: BootEnv; readonly state: BootState }> {
  const env = await loadBootEnv(machine);
  const wrong = await trouble(machine, env);
  if (wrong !== null) throw wrong;
  const { state } = env;
  if (state === null) {
    throw new QxError('BOOT_ENV_INVALID', 'neither copy of the boot environment is valid', {
      next: 'qx-update confirm writes them anew for the slot that runs',
    });
  }
  await repair(machine, env, state);
  return { env, state };
}

/** The copy that is not believed first: the whole one stays until there are two. */
async function repair({ boot }: Machine, env: BootEnv, state: BootState): Promise<void> {
  const block = blockFor(env, state);
  for (const copy of [otherCopy(env.primary), env.primary]) {
    if (!sameBytes(env.bytes[copy], block)) await boot.write(copy, block);
  }
}

/** The copy that GRUB used comes first: in this boot it is the one that is believed. */
async function writeBoth({ boot }: Machine, env: BootEnv, state: BootState): Promise<void> {
  const block = blockFor(env, state);
  await boot.write(env.primary, block);
  await boot.write(otherCopy(env.primary), block);
}

/** One size for both, the larger one, since neither file may shrink. */
function blockFor(env: BootEnv, state: BootState): Uint8Array {
  const sizeBytes = Math.max(env.bytes.grubenv?.length ?? 0, env.bytes['grubenv.bak']?.length ?? 0);
  return encodeBoot(state, env.bytes[env.primary], sizeBytes);
}

const sameBytes = (a: Uint8Array | null, b: Uint8Array): boolean =>
  a !== null && a.length === b.length && a.every((byte, i) => byte === b[i]);
