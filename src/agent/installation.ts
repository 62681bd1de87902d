import { freshState, sameBoot } from '../core/boot.ts';
import { type Evidence, installationOf, mayMark, newPlaces } from '../core/mounts.ts';
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
  const places = await lookAtPlaces(machine);
  const own = installationOf(places);
  if (own === null && !mayMark(places, await evidenceOf(machine))) return;
  const found = newPlaces(places, own);
  const isUnfinished = places.some(({ path, isKnown }) => path === '/quantix' && !isKnown);
  if (found.length === 0 && !isUnfinished) return;
  const mark = { installation: own || machine.random.id() };
  // A power cut in between must not leave a host that misses what it has not marked yet.
  if (own === null) await writeMark(machine.files, '/quantix', { ...mark, is_unfinished: true });
  for (const path of found) if (path !== '/quantix') await writeMark(machine.files, path, mark);
  await writeMark(machine.files, '/quantix', { ...mark, ...volumesOf(machine) });
}

async function evidenceOf(machine: Marker): Promise<Evidence> {
  const state = await currentBoot(machine);
  const known = await Promise.all([PATHS.journal, PATHS.memory].map((path) => machine.files.info(path)));
  return {
    isNew: state !== null && sameBoot(state, freshState('A')),
    isKnown: state !== null && known.some((file) => file !== null),
  };
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
  const own = installationOf(places);
  if (own === null) {
    throw new QxError('NOT_FOUND', 'nothing of this host is marked yet: its agent does that when it starts', {
      next: 'start the agent, then qx-update mounts list',
    });
  }
  // The audit log lies there.
  const lost = path === '/quantix' ? null : await mountTrouble(machine, ['/quantix']);
  if (lost !== null) throw lost;
  if (place.isLasting === false) {
    const detail = `${path} lies in memory, or in the image: what is kept there is gone with the next boot`;
    throw new QxError('MOUNT_MISSING', detail, { next: `mount a file system on ${path} first` });
  }
  const installation = installationOf(places.filter((one) => one !== place)) || own || machine.random.id();
  await writeMark(machine.files, path, { installation, ...(path === '/quantix' ? volumesOf(machine) : {}) });
  await machine.audit.record({ event: 'mount_accepted', actor, detail: reason, fields: { path } });
}
