import type { Outcome } from './show.ts';

/** The host of the demo, on whatever this machine lets us build it. */
export interface DemoHost extends AsyncDisposable {
  /** What it is made of, and what stands in for what. */
  readonly description: readonly string[];
  /** Makes the image of a release for this kind of host; its path. */
  nextImage(version: string): Promise<string>;
  run(...command: [string, ...string[]]): Promise<Outcome>;
  /** As `run`, for people to see. */
  show(...command: [string, ...string[]]): Promise<number>;
  /** What `run` has to be given for a path of the host. */
  path(hostPath: string): string;
  sha256(path: string): Promise<string>;
  /** Of as many bytes of the slot as the image has. */
  slotSha256(slot: 'A' | 'B', image: string): Promise<string>;
  /** Services that an update restarts; empty where no services are run. */
  servicePids(): Promise<Readonly<Record<string, string>>>;
  /** The boot environment as GRUB will find it. */
  environment(): Promise<ReadonlyMap<string, string>>;
  powerOff(): Promise<void>;
  /** Power off and on. */
  reboot(): Promise<Booted>;
  /** GRUB, and then a kernel that never gets anywhere. */
  panickingBoot(): Promise<Booted>;
  untilConfirmed(): Promise<void>;
}

export interface Booted {
  readonly slot: 'A' | 'B';
  readonly cmdline: string;
}
