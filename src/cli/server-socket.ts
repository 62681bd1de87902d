import { dirname } from 'node:path';
import { asQxError, QxError } from '../errors.ts';
import type { Listening } from '../ports/serving.ts';
import type { Files, Log } from '../ports.ts';
import { socketPath } from './socket.ts';

/** The Unix socket of the update server: whoever can open it is root here, and needs no token. */

const LAST_REQUESTS_MS = 2000;

interface Machine {
  readonly files: Files;
  readonly log: Log;
  listenUnix(path: string): Promise<Listening>;
}

interface SocketSetting {
  readonly path: string;
  readonly isChosen: boolean;
}

/**
 * A server that may not write where the socket is by default serves releases all the same; one that was told to have it does
 * not start without. @throws QxError
 */
export async function listenOnSocket(
  machine: Machine,
  { path, isChosen }: SocketSetting,
): Promise<{ close(): Promise<void> }> {
  try {
    return await listen(machine, path);
  } catch (error) {
    const { code, message } = asQxError(error);
    if (isChosen) {
      throw new QxError(code, `cannot listen on SERVER_SOCKET ${path}: ${message}`, {
        next: 'name a path that this user may write to',
        cause: error,
      });
    }
    machine.log.warn('socket_unavailable', {
      path,
      code,
      detail: message,
      effect: 'qx-fleet needs --server and a token; SERVER_SOCKET names another path',
    });
    return { close: async () => undefined };
  }
}

async function listen({ files, listenUnix }: Machine, path: string): Promise<{ close(): Promise<void> }> {
  await files.makeDirectory(dirname(path));
  // The socket of a server that runs would be taken from under it.
  const unlock = await files.lock(`${path}.lock`);
  if (unlock === null)
    throw new QxError('BUSY', 'another server listens there', { next: 'give each server a SERVER_SOCKET of its own' });
  const { path: short, close } = await socketPath(path);
  const listening = await listenUnix(short);
  return {
    close: async () => {
      await listening.close(LAST_REQUESTS_MS);
      await close();
      await unlock();
    },
  };
}
