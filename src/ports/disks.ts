import type { DiskFacts } from '../core/disks.ts';

/** The disks of a machine, as its kernel has them. */
export interface Disks {
  /** Null where this is a folder, and no machine. */
  look(): Promise<DiskFacts | null>;
  /** Whether what is written below it outlives a boot: not in memory, nor in an image. Null where this is a folder. */
  isLasting(path: string): Promise<boolean | null>;
  /** The device that a name such as /dev/disk/by-partlabel/QUANTIX-A leads to; null where it leads nowhere. */
  resolve(path: string): Promise<string | null>;
  /** Whether a file system on it is mounted, or something else is built on it: what runs from it is not told by any name. */
  isInUse(device: string): Promise<boolean>;
  /** Every block on the partition that looks like a boot environment, whatever file system it lies in. */
  environmentsOn(device: string): Promise<readonly Uint8Array[]>;
}
