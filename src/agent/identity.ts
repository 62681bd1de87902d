import { createHash, randomBytes } from 'node:crypto';
import { isSameMachine } from '../core/same-machine.ts';
import { QxError } from '../errors.ts';
import { writeDocument } from '../format/document.ts';
import {
  type COPIED_IDENTITY_PATH,
  HOST_IDENTITY_PATH,
  type HostIdentity,
  readHostIdentity,
} from '../format/host-identity.ts';
import type { Files } from '../ports.ts';
import { readHardware } from './hardware.ts';

/** The id of this host, in a file that is made once. Whoever outside needs one gets a hash of it that is for him alone. */

const MAX_BYTES = 64 << 10;
const FRESH = `${HOST_IDENTITY_PATH}.new`;

/** Null when there is none. One that is there and cannot be read is never made anew. @throws QxError STATE_INVALID | STATE_TOO_NEW */
export const readIdentity = async (
  files: Files,
  path: typeof HOST_IDENTITY_PATH | typeof COPIED_IDENTITY_PATH = HOST_IDENTITY_PATH,
): Promise<HostIdentity | null> => {
  const bytes = await files.read(path, MAX_BYTES);
  return bytes === null ? null : readHostIdentity(bytes, path);
};

/** Made where there is none. @throws QxError STATE_INVALID | STATE_TOO_NEW */
export const loadIdentity = async (files: Files): Promise<HostIdentity> =>
  (await readIdentity(files)) ?? (await makeIdentity(files));

/** By which others know this host. @throws QxError MACHINE_DIFFERS | STATE_INVALID | STATE_TOO_NEW */
export async function ownIdFor(files: Files, purpose: 'fleetlock'): Promise<string> {
  const { id, hardware } = await loadIdentity(files);
  if (isSameMachine(hardware, await readHardware(files))) return idFor(purpose, id);
  throw new QxError('MACHINE_DIFFERS', 'the id on this disk was made on another machine, and is not replaced yet', {
    next: 'see in the log of the agent why not (identity_not_settled), then start the agent anew',
  });
}

export const saveIdentity = (files: Files, identity: HostIdentity): Promise<void> =>
  files.writeAtomic(HOST_IDENTITY_PATH, writeDocument(identity), 0o600);

/** The agent and a command may come here together: who is second gets the id of the first. */
async function makeIdentity(files: Files): Promise<HostIdentity> {
  const made: HostIdentity = { format: 1, id: randomBytes(16).toString('hex'), hardware: await readHardware(files) };
  await files.makeDirectory(HOST_IDENTITY_PATH.slice(0, HOST_IDENTITY_PATH.lastIndexOf('/')), 0o700);
  await files.writeAtomic(FRESH, writeDocument(made), 0o600);
  const kept = await files.duplicate(FRESH, HOST_IDENTITY_PATH).then(
    () => null,
    (error: unknown) => error,
  );
  const identity = await readIdentity(files);
  if (identity === null) throw kept ?? new QxError('IO', `${HOST_IDENTITY_PATH} is gone as soon as it is written`);
  await files.remove(FRESH);
  return identity;
}

/** Another one for each purpose, from which nobody learns the id itself, nor one of the others. */
export const idFor = (purpose: 'fleetlock' | 'boot', secret: string): string =>
  createHash('sha256').update(`quantix ${purpose} ${secret}`).digest('hex').slice(0, 32);
