import { cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BlockFile, blockFile, type GrubRun, grubMachine, makeExt4 } from './grub-emu.ts';

/** Boots a host's own boot folder and slots through the real GRUB: what its next start would be. */

export interface GrubHost {
  /** The folder with grub.cfg and the two copies of the environment, as the host has it. */
  readonly grubFolder: string;
  readonly slotA: string;
  readonly slotB: string;
}

export interface HostBoot extends GrubRun {
  readonly slot: string | null;
}

const COPIES = ['grubenv', 'grubenv.bak'] as const;

/** One start: what GRUB wrote into the environment is in the host's folder afterwards. */
export async function bootHost(host: GrubHost, options: { readonly entry?: string } = {}): Promise<HostBoot> {
  const scratch = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
  try {
    const bootFolder = join(scratch, 'boot');
    await mkdir(bootFolder);
    await cp(host.grubFolder, join(bootFolder, 'grub'), { recursive: true });
    await addToLayout(join(bootFolder, 'grub'));
    const image = join(scratch, 'boot.img');
    await makeExt4(bootFolder, image, 4);
    const run = await grubMachine(scratch);
    const boot = await run({ disks: [image, host.slotA, host.slotB], root: 'hd0', ...options });
    for (const copy of COPIES) await takeBack(image, host.grubFolder, copy);
    return { ...boot, slot: slotOf(boot) };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The slot that the kernel was told. */
export const slotOf = (run: GrubRun): string | null =>
  /(?:^| )quantix\.slot=([AB])(?: |$)/.exec(run.kernel?.cmdline ?? '')?.[1] ?? null;

/** The host's own layout stays in force, except for where the slots are in this machine and for waiting. */
export async function addToLayout(grubFolder: string): Promise<void> {
  const path = join(grubFolder, 'quantix-layout.cfg');
  const layout = await readFile(path, 'utf8').catch(() => '');
  await writeFile(path, `${layout}\nset qx_slot_a=hd1\nset qx_slot_b=hd2\nset qx_serial=0\nset qx_wait=0\n`);
}

async function takeBack(image: string, grubFolder: string, copy: string): Promise<void> {
  const path = join(grubFolder, copy);
  if (await isMissing(path)) return;
  const inImage: BlockFile = await blockFile(image, `/grub/${copy}`);
  await writeFile(path, await inImage.read());
}

const isMissing = (path: string): Promise<boolean> =>
  stat(path).then(
    () => false,
    () => true,
  );
