import { writeDocument } from '../../format/document.ts';
import {
  ENROLLING_PATH,
  type Enrolling,
  MEMBERSHIP_PATH,
  type Membership,
  readEnrolling,
  readMembership,
} from '../../format/membership.ts';
import type { Files, Http, HttpRequest, Post, TlsIdentity } from '../../ports.ts';

/** The fleet that this host belongs to, as its files say it. Read anew each time: enrolling needs no restart of the agent. */

const MAX_BYTES = 64 << 10;

/** Null: the host stands alone. @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadMembership(files: Files): Promise<Membership | null> {
  const bytes = await files.read(MEMBERSHIP_PATH, MAX_BYTES);
  return bytes === null ? null : readMembership(bytes);
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

/** Who this host is and whom it believes, for requests to the server of its fleet and for no others. */
export function memberHttp(http: Http & Post, files: Files): Http & Post {
  const known = async <R extends HttpRequest>(url: string, request: R): Promise<R> => {
    if (request.tls !== undefined) return request;
    const membership = await loadMembership(files);
    if (membership === null || URL.parse(url)?.origin !== membership.server) return request;
    return { ...request, tls: identityOf(membership) };
  };
  return {
    get: async (url, request) => http.get(url, await known(url, request)),
    post: async (url, request) => http.post(url, await known(url, request)),
  };
}

const identityOf = ({ pin, certificate, private_key }: Membership): TlsIdentity => ({
  ...(pin === null ? {} : { pin }),
  client: { certificate, key: private_key },
});
