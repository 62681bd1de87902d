import { randomBytes } from 'node:crypto';
import { asQxError, fieldsOf, QxError } from '../errors.ts';
import type { Files, Log } from '../ports.ts';

/** The secret with which the administrator of a host reaches its agent over the network. Made when the agent first starts. */

const TOKEN_PATH = '/quantix/limiquantix/api-token';
const TOKEN_BYTES = 32;
const MAX_FILE_BYTES = 4096;
const SHORTEST = 32;

interface Machine {
  readonly files: Files;
  readonly log: Log;
}

/**
 * Sees to it that there is a token when the agent starts. Where none can be kept, on a host whose /quantix is broken for
 * example, or the file holds none, the agent still has to start, and then takes no orders over the network. Never throws.
 */
export async function prepareToken({ files, log }: Machine): Promise<void> {
  try {
    if ((await readToken(files)) === null) {
      await rotateToken(files);
      log.info('api_token_made', { path: TOKEN_PATH });
    } else if (await isReadableByOthers(files)) {
      log.warn('api_token_was_readable', { path: TOKEN_PATH, detail: 'others could read it; qx-update token rotate' });
      await files.setMode(TOKEN_PATH, 0o600);
    }
  } catch (error) {
    log.warn('api_token_unavailable', { ...fieldsOf(error), effect: NO_ORDERS });
  }
}

const NO_ORDERS = 'no orders are taken over the network by token';

/** Why no token counts now; null when one does. */
export const tokenFault = (files: Files): Promise<QxError | null> => showToken(files).then(() => null, asQxError);

/** The token that counts at this moment, so that a rotation needs no restart; null while the file cannot be relied on. */
export async function currentToken({ files, log }: Machine): Promise<string | null> {
  try {
    const token = await showToken(files);
    if (!(await isReadableByOthers(files))) return token;
    log.warn('api_token_readable', { path: TOKEN_PATH, effect: 'refused until its mode is 0600 again' });
  } catch (error) {
    log.warn('api_token_unavailable', { ...fieldsOf(error), effect: NO_ORDERS });
  }
  return null;
}

/** The token of this host, for its administrator's eyes. @throws QxError NOT_FOUND | INSECURE_TOKEN | IO */
export async function showToken(files: Files): Promise<string> {
  const token = await readToken(files);
  if (token !== null) return token;
  throw new QxError('NOT_FOUND', `there is no ${TOKEN_PATH}`, { next: 'qx-update token rotate makes one' });
}

/** Puts a new token in the place of the one that is there, if any, and answers it. The agent takes it from the next request on. */
export async function rotateToken(files: Files): Promise<string> {
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  await files.makeDirectory(TOKEN_PATH.slice(0, TOKEN_PATH.lastIndexOf('/')), 0o700);
  await files.writeAtomic(TOKEN_PATH, new TextEncoder().encode(`${token}\n`), 0o600);
  return token;
}

async function readToken(files: Files): Promise<string | null> {
  const bytes = await files.read(TOKEN_PATH, MAX_FILE_BYTES);
  if (bytes === null) return null;
  const token = new TextDecoder().decode(bytes).trim();
  if (token.length >= SHORTEST && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new QxError('INSECURE_TOKEN', `${TOKEN_PATH} holds no token of at least ${SHORTEST} characters`, {
    next: 'qx-update token rotate makes a new one',
  });
}

const isReadableByOthers = async (files: Files): Promise<boolean> =>
  (((await files.info(TOKEN_PATH))?.mode ?? 0) & 0o077) !== 0;
