import { type Place, type PlaceState, placeStates } from '../core/mounts.ts';
import { QxError } from '../errors.ts';
import { writeDocument } from '../format/document.ts';
import {
  INSTALLATION_FILE,
  type Installation,
  MAX_INSTALLATION_BYTES,
  readInstallation,
} from '../format/installation.ts';
import type { Disks } from '../ports/disks.ts';
import type { Boot, Files } from '../ports.ts';

/**
 * What a host keeps lies on file systems of their own. A mount that failed leaves an empty folder: nothing may be begun anew in
 * it, neither who the host is nor what it has installed. Each of them carries a mark that the missing one takes along.
 */

export interface MountMachine {
  readonly files: Files;
  readonly boot: Boot;
  readonly disks: Disks;
  readonly config?: { readonly volumePath: string | null } | undefined;
}

/** The folder that is mounted -> where its mark lies. */
const MARKED: Readonly<Record<string, string>> = {
  '/boot': '/boot/grub',
  '/quantix': '/quantix/limiquantix',
  '/data': '/data',
};

const folderOf = (path: string): string => MARKED[path] ?? path;
const markOf = (path: string): string => `${folderOf(path)}/${INSTALLATION_FILE}`;

export async function lookAtPlaces(machine: MountMachine): Promise<readonly Place[]> {
  const own = await readMark(machine.files, '/quantix');
  const volume = machine.config?.volumePath ?? null;
  const paths = [...Object.keys(MARKED), ...(volume === null ? [] : [volume])];
  return Promise.all(
    paths.map(async (path) => {
      const mark = await readMark(machine.files, path);
      // A volume is known once it was marked: until then it may be new.
      const isKnown = path in MARKED ? own?.is_unfinished !== true : own?.volumes?.includes(path) === true;
      return {
        path,
        installation: mark?.installation ?? null,
        isKnown,
        isLasting: await machine.disks.isLasting(path),
      };
    }),
  );
}

async function readMark({ read }: Files, path: string): Promise<Installation | null> {
  const bytes = await read(markOf(path), MAX_INSTALLATION_BYTES);
  return bytes === null ? null : readInstallation(bytes, markOf(path));
}

export async function writeMark(files: Files, path: string, mark: Omit<Installation, 'format'>): Promise<void> {
  await files.makeDirectory(folderOf(path), path === '/quantix' ? 0o700 : 0o755);
  await files.writeAtomic(markOf(path), writeDocument({ format: 1, ...mark }), 0o644);
}

export interface Mount {
  readonly path: string;
  readonly state: PlaceState;
}

/** Empty for a system that our GRUB did not start. */
export async function mountStates(machine: MountMachine): Promise<readonly Mount[]> {
  if ((await machine.boot.booted()).slot === null) return [];
  return [...placeStates(await lookAtPlaces(machine))].map(([path, state]) => ({ path, state }));
}

/** What is wrong with the first of these, all of them without a list; null while they are there, as far as anybody can tell. */
export async function mountTrouble(machine: MountMachine, of?: readonly string[]): Promise<QxError | null> {
  const wrong = (await mountStates(machine)).find(
    ({ path, state }) => (of === undefined || of.includes(path)) && (state === 'missing' || state === 'foreign'),
  );
  return wrong === undefined ? null : troubleOf(wrong);
}

function troubleOf({ path, state }: Mount): QxError {
  const code = path === '/boot' ? 'BOOT_MISSING' : 'MOUNT_MISSING';
  const accept = `qx-update mounts accept ${path} --reason TEXT`;
  if (state === 'foreign') {
    const next = `mount the one of this host; if this is its new disk: ${accept}`;
    return new QxError(code, `what is mounted on ${path} belongs to another installation`, { next });
  }
  const next = `mount ${path}, and see in dmesg why it was not; if it is new and empty: ${accept}`;
  return new QxError(code, `${path} is not mounted: what this host keeps there is missing`, { next });
}
