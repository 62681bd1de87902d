import { join } from 'node:path';
import { keyboardOf, type Typist } from '../../scripts/support/keyboard.ts';
import { startQemu } from '../../scripts/support/vm/qemu.ts';
import { layout } from './damage.ts';
import type { Place } from './stuck.ts';

/** A disk on which GRUB listens as long as it does on a host that was not told otherwise. */
export const LISTENING = layout('set qx_timeout=2\n');

/** What GRUB promises, from the power button on. */
const MINUTE_MS = 60_000;

/** The kernel of the trial, as it was told. */
export const TRIAL_OF_B = / quantix\.slot=B quantix\.env=grubenv .*quantix\.trial=\S+/;

/** The command line of the kernel that GRUB starts while this comes in on the serial line. */
export async function bootedWith({ disk, more, logs }: Place, typist: Typist): Promise<string> {
  const qemu = await startQemu({ disk, more, isTyped: true, logFile: join(logs, `noisy-${Date.now()}.log`) });
  try {
    if (qemu.line === null) throw new Error('the machine has no serial line');
    const booted = qemu.untilConsole(/Command line: (.*)\n/, MINUTE_MS);
    const [found] = await Promise.all([booted, typist(keyboardOf(qemu.line, qemu.line, booted))]);
    return found?.[1] ?? '';
  } finally {
    await qemu.kill();
  }
}
