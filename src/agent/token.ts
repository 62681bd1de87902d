import { randomBytes } from 'node:crypto';
import { asQxError, QxError } from '../errors.ts';
import type { Files, Log } from '../ports.ts';

/** The secret with which the administrator of a host reaches its agent over the network. Made when the agent first starts. */

const TOKEN_PATH = '/quantix/limiquantix/api-token';
const TOKEN_BYTES = 32;
const MAX_FILE_BYTES = 4096;
const SHORTEST = 32;

/**
 * Null when none can be kept, on a host whose /quantix is broken for example: its agent still has to start, and then takes no
 * orders over the network. @throws QxError INSECURE_TOKEN
 */
export async function loadToken({ files, log }: { files: Files; log: Log }): Promise<string | null> {
  try {
    return (await readToken(files, log)) ?? (await makeToken(files, log));
  } catch (error) {
    const { code, message } = asQxError(error);
    if (code === 'INSECURE_TOKEN') throw error;
    log.warn('api_token_unavailable', { code, detail: message, effect: 'no orders are taken over the network' });
    return null;
  }
}

async function readToken(files: Files, log: Log): Promise<string | null> {
  const bytes = await files.read(TOKEN_PATH, MAX_FILE_BYTES);
  if (bytes === null) return null;
  const token = new TextDecoder().decode(bytes).trim();
  if (token.length < SHORTEST || /[^\x21-\x7e]/.test(token)) {
    throw new QxError('INSECURE_TOKEN', `${TOKEN_PATH} holds no token of at least ${SHORTEST} characters`, {
      next: `remove ${TOKEN_PATH}: a new one is made at the next start`,
    });
  }
  const mode = (await files.info(TOKEN_PATH))?.mode ?? 0;
  if ((mode & 0o077) !== 0) {
    log.warn('api_token_was_readable', {
      path: TOKEN_PATH,
      detail: 'others could read it; remove it to get a new one',
    });
    await files.setMode(TOKEN_PATH, 0o600);
  }
  return token;
}

async function makeToken(files: Files, log: Log): Promise<string> {
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  await files.makeDirectory(TOKEN_PATH.slice(0, TOKEN_PATH.lastIndexOf('/')), 0o700);
  await files.writeAtomic(TOKEN_PATH, new TextEncoder().encode(`${token}\n`), 0o600);
  log.info('api_token_made', { path: TOKEN_PATH });
  return token;
}
