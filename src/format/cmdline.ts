import type { Slot } from './grubenv.ts';

/** `unreadable`: GRUB found no kernel or initramfs there that it could load. `unsaved`: it could not write down the try. */
export type FailedWhy = '' | 'unreadable' | 'unsaved';

/** What grub.cfg says to the system that it boots, on the kernel command line. */
export interface KernelWords {
  readonly slot: Slot | null;
  /** The copy of the environment that GRUB used; null when it found none valid, or when something else booted us. */
  readonly copy: 'grubenv' | 'grubenv.bak' | null;
  readonly trial: string;
  /** Of this trial, as GRUB has just saved it; null where it says nothing. */
  readonly triesLeft: number | null;
  /** Ids of the partitions that GRUB read the environment from, and starts the slots from; null where it names none. */
  readonly bootPart: string | null;
  readonly slotParts: Readonly<Record<Slot, string | null>>;
  /** A trial that GRUB gave up on the way to this boot, told even where it could not be saved. */
  readonly failed: string;
  /** Why, where it was not for tries that were used up. */
  readonly failedWhy: FailedWhy;
  /** Nothing from the data partition is to be used. */
  readonly safe: boolean;
}

const TRIAL_ID = /^[a-z0-9]{8,32}$/;
/** Of a GPT, or of a PC's table. */
const PART_ID = /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}-[0-9a-f]{2})$/;

/** The last of a repeated word counts, as for the kernel. Words with values that we never write say nothing. */
export function parseCmdline(text: string): KernelWords {
  const words = text.split(/\s+/);
  const last = (name: string): string => words.findLast((word) => word.startsWith(`quantix.${name}=`)) ?? '';
  const value = (name: string): string => last(name).slice(`quantix.${name}=`.length);
  const id = (name: string): string => (TRIAL_ID.test(value(name)) ? value(name) : '');
  const part = (name: string): string | null => (PART_ID.test(value(name)) ? value(name) : null);
  const [slot, copy, why] = [value('slot'), value('env'), value('failed_why')];
  return {
    slot: slot === 'A' || slot === 'B' ? slot : null,
    copy: copy === 'grubenv' || copy === 'grubenv.bak' ? copy : null,
    trial: id('trial'),
    triesLeft: /^[0-3]$/.test(value('tries')) ? Number(value('tries')) : null,
    bootPart: part('boot_part'),
    slotParts: { A: part('a_part'), B: part('b_part') },
    failed: id('failed'),
    failedWhy: why === 'unreadable' || why === 'unsaved' ? why : '',
    safe: words.includes('quantix.safe'),
  };
}
