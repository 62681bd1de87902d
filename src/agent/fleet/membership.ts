import { isSameMachine } from '../../core/same-machine.ts';
import { isCode, QxError } from '../../errors.ts';
import { writeDocument } from '../../format/document.ts';
import { BOOT_HEADER } from '../../format/fleet-routes.ts';
import { COPIED_IDENTITY_PATH, type Hardware } from '../../format/host-identity.ts';
import {
  ENROLLING_PATH,
  type Enrolling,
  MEMBERSHIP_PATH,
  type Membership,
  readEnrolling,
  readMembership,
} from '../../format/membership.ts';
import type { Boot, Files, Http, HttpRequest, Post, TlsIdentity } from '../../ports.ts';
import { readHardware } from '../hardware.ts';
import { idFor, loadIdentity } from '../identity.ts';

/** The fleet that this host belongs to, as its files say it. Read anew each time: enrolling needs no restart of the agent. */

const MAX_BYTES = 64 << 10;

/** Null: the host stands alone. @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadMembership(files: Files): Promise<Membership | null> {
  const bytes = await files.read(MEMBERSHIP_PATH, MAX_BYTES);
  return bytes === null ? null : readMembership(bytes);
}

/**
 * Whether a key that lies on this disk was made on this host: one that was not is never used, since its owner may be up as well.
 * The hardware is looked at here too, for a copy that could not make an id of its own has that of the original. A key from before
 * hosts had ids is of this host, unless the disk is known to be a copy. @throws QxError STATE_INVALID | STATE_TOO_NEW
 */
export async function isOwn(
  files: Files,
  { host_id }: Membership | Enrolling,
  hardware: Promise<Hardware> = readHardware(files),
): Promise<boolean> {
  const identity = await loadIdentity(files);
  if (!isSameMachine(identity.hardware, await hardware)) return false;
  return host_id === undefined ? (await files.info(COPIED_IDENTITY_PATH)) === null : host_id === identity.id;
}

/** Null: the host stands alone. @throws QxError MACHINE_DIFFERS | STATE_INVALID | STATE_TOO_NEW */
export async function ownMembership(files: Files): Promise<Membership | null> {
  const membership = await loadMembership(files);
  return membership === null ? null : ownOf(files, membership);
}

/** @throws QxError MACHINE_DIFFERS | STATE_INVALID | STATE_TOO_NEW */
export async function ownOf(files: Files, membership: Membership, hardware?: Promise<Hardware>): Promise<Membership> {
  if (await isOwn(files, membership, hardware)) return membership;
  const { node_id, server } = membership;
  const detail = `this identity was made on another machine: this host is not ${node_id} in the fleet of ${server}`;
  throw new QxError('MACHINE_DIFFERS', detail, {
    next: 'for a copied disk, qx-update enroll JOIN with a join string of its own; for the same host after an exchange of hardware, qx-update identity keep --reason TEXT',
  });
}

/** Its key is for root alone. Answers whether others could read it until now. */
export async function closeMembership(files: Files): Promise<boolean> {
  const info = await files.info(MEMBERSHIP_PATH);
  if (info === null || (info.mode & 0o077) === 0) return false;
  await files.setMode(MEMBERSHIP_PATH, 0o600);
  return true;
}

/** Key and certificate in one file, so that no power cut leaves one of them without the other. */
export const saveMembership = (files: Files, membership: Membership): Promise<void> =>
  save(files, MEMBERSHIP_PATH, membership);

/** Null: nothing waits for an answer. @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadEnrolling(files: Files): Promise<Enrolling | null> {
  const bytes = await files.read(ENROLLING_PATH, MAX_BYTES);
  return bytes === null ? null : readEnrolling(bytes);
}

export const saveEnrolling = (files: Files, enrolling: Enrolling): Promise<void> =>
  save(files, ENROLLING_PATH, enrolling);

async function save(files: Files, path: string, document: object): Promise<void> {
  await files.makeDirectory(path.slice(0, path.lastIndexOf('/')), 0o700);
  await files.writeAtomic(path, writeDocument(document), 0o600);
}

export const forgetMembership = (files: Files): Promise<void> => files.remove(MEMBERSHIP_PATH);

export const forgetEnrolling = (files: Files): Promise<void> => files.remove(ENROLLING_PATH);

/**
 * Who this host is and whom it believes, for requests to the server of its fleet and for no others. Which boot of it speaks goes
 * along: two at once are two machines. The boot itself is nobody's business.
 */
export function memberHttp(http: Http & Post, files: Files, { bootId }: Pick<Boot, 'bootId'>): Http & Post {
  // Read once: an image comes in thousands of requests, and cards and disks that are pulled out change nothing of who this is.
  const now: { hardware?: Promise<Hardware> } = {};
  const known = async <R extends HttpRequest>(url: string, request: R): Promise<R> => {
    if (request.tls !== undefined) return request;
    const membership = await loadMembership(files);
    if (membership === null || URL.parse(url)?.origin !== membership.server) return request;
    now.hardware ??= readHardware(files);
    const tls = identityOf(await ownOf(files, membership, now.hardware));
    return { ...request, tls, headers: { ...request.headers, [BOOT_HEADER]: idFor('boot', await bootId()) } };
  };
  return {
    get: async (url, request) => http.get(url, await known(url, request)).catch(keyExplained),
    post: async (url, request) => http.post(url, await known(url, request)).catch(keyExplained),
  };
}

function keyExplained(error: unknown): never {
  if (!isCode(error, 'SERVER_KEY_WRONG')) throw error;
  throw new QxError(error.code, error.message, {
    next: 'ask whoever runs the server whether its TLS key is a new one. If so: qx-fleet node invite NODE there, and qx-update enroll --again - here; or an authority that vouches for it, in updates.server_ca. If not, somebody answers in its place',
    cause: error,
  });
}

const identityOf = ({ pin, pins, certificate, private_key }: Membership): TlsIdentity => ({
  ...(pin === null ? {} : { pins: pins ?? [pin] }),
  client: { certificate, key: private_key },
});
