import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';

/** The kernel takes 107 bytes; a listener first binds under a longer name beside the socket. */
const LONGEST_BYTES = 90;

export interface SocketPath {
  readonly path: string;
  /** Only once nobody connects to it or listens on it any more. */
  close(): Promise<void>;
}

/**
 * A path of a Unix socket that the kernel accepts. The folder of a host that lives deep in a file system is opened and named
 * by its descriptor instead. @throws Error ENOENT when there is no such folder
 */
export async function socketPath(path: string): Promise<SocketPath> {
  if (Buffer.byteLength(path) <= LONGEST_BYTES) return { path, close: async () => undefined };
  const folder = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  return { path: `/proc/self/fd/${folder.fd}/${basename(path)}`, close: () => folder.close() };
}
