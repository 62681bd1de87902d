import { freshState, sameBoot } from '../core/boot.ts';
import { installationOf, mayMark, newVolumes } from '../core/mounts.ts';
import { QxError } from '../errors.ts';
import type { Audit } from '../ports/audit.ts';
import type { Random } from '../ports.ts';
import { bootTrouble, currentBoot } from './bootenv.ts';
import { PATHS } from './host.ts';
import { lookAtPlaces, type MountMachine, mountTrouble, writeMark } from './mounts.ts';

/** Which file systems belong to this host: marked once, by the agent, and from then on by a person only. */

type Marker = MountMachine & { readonly random: Random };

/** Writes the marks that a host has not got yet. Called with the lock held, by the agent as it starts. */
export async function markMounts(machine: Marker): Promise<void> {
  if ((await machine.boot.booted()).slot === null || (await bootTrouble(machine)) !== null) return;
  const [places, state] = [await lookAtPlaces(machine), await currentBoot(machine)];
  const isNew = state !== null && sameBoot(state, freshState('A'));
  const known = await Promise.all([PATHS.journal, PATHS.memory].map((path) => machine.files.info(path)));
  const isKnown = known.some((file) => file !== null);
  const own = installationOf(places);
  if (own === null && !(state !== null && mayMark(places, { isNew, isKnown }))) return;
  const installation = own || machine.random.id();
  const volumes = newVolumes(places);
  if (own !== null && volumes.length === 0) return;
  const fixed = places.filter(({ isKnown, installation: id }) => isKnown && id === null).map(({ path }) => path);
  for (const path of [...volumes, ...fixed.filter((one) => one !== '/quantix')]) {
    await writeMark(machine.files, path, { installation });
  }
  // Last: what it names is marked.
  await writeMark(machine.files, '/quantix', { installation, ...volumesOf(machine) });
}

const volumesOf = ({ config }: MountMachine): { volumes?: string[] } =>
  config?.volumePath ? { volumes: [config.volumePath] } : {};

/** A person says that what is there now is this host's. @throws QxError NOT_FOUND | MOUNT_MISSING */
export async function acceptMount(
  machine: Marker & { readonly audit: Audit },
  path: string,
  reason: string,
  actor: string,
): Promise<void> {
  const places = await lookAtPlaces(machine);
  const place = places.find((one) => one.path === path);
  if (place === undefined) {
    const paths = places.map((one) => one.path).join(', ');
    throw new QxError('NOT_FOUND', `${path} is none of ${paths}`, { next: 'qx-update mounts list' });
  }
  // The audit log lies there.
  const lost = path === '/quantix' ? null : await mountTrouble(machine, ['/quantix']);
  if (lost !== null) throw lost;
  if (place.isLasting === false) {
    const detail = `${path} lies in memory, or in the image: what is kept there is gone with the next boot`;
    throw new QxError('MOUNT_MISSING', detail, { next: `mount a file system on ${path} first` });
  }
  const installation = installationOf(places.filter((one) => one !== place)) || machine.random.id();
  await writeMark(machine.files, path, { installation, ...(path === '/quantix' ? volumesOf(machine) : {}) });
  await machine.audit.record({ event: 'mount_accepted', actor, detail: reason, fields: { path } });
}
