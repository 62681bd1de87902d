import { createHash, randomUUID } from 'node:crypto';
import { link, readFile, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { beside, hasCode, isMissing, openRegular, syncDirectory, writeNew } from './durable.ts';

/**
 * A lock that is a file naming its holder: an operator can read who it is, and it survives neither the holder's death nor a
 * reboot. Node has no flock.
 */

interface Holder {
  readonly pid: number;
  /** When that process started, and in which boot: a pid alone is soon somebody else's. */
  readonly start: string;
  readonly boot: string;
  /** Tells two locks of one process apart. */
  readonly nonce: string;
}

const MAX_HOLDER_BYTES = 4096;

export async function lockFile(path: string): Promise<(() => Promise<void>) | null> {
  const mine = JSON.stringify(await thisProcess());
  const temporary = beside(path);
  await writeNew(temporary, Buffer.from(mine), 0o644);
  try {
    if (!(await claim(path, temporary))) return null;
  } finally {
    await unlink(temporary).catch(() => undefined);
  }
  await syncDirectory(dirname(path));
  return async () => {
    // Released twice, or removed by hand and then taken by another: not ours any more.
    if ((await readHolder(path)) === mine) await unlink(path);
  };
}

/** The file is complete before it has its name, and of two that link to one name exactly one succeeds. */
async function claim(path: string, temporary: string): Promise<boolean> {
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  const found = await readHolder(path);
  if (found === null) return claim(path, temporary);
  return (await isAlive(found)) ? false : takeOver(path, temporary, found);
}

/**
 * Whoever sees a dead holder may still be late: another may have taken over and hold the lock by now. So replacing this one
 * dead holder is itself done under a lock, named after its content, and only if that content is still there.
 */
async function takeOver(path: string, temporary: string, dead: string): Promise<boolean> {
  const generation = createHash('sha256').update(dead).digest('hex').slice(0, 16);
  const release = await lockFile(`${path}.${generation}`);
  if (release === null) return false;
  try {
    if ((await readHolder(path)) !== dead) return false;
    await rename(temporary, path);
    return true;
  } finally {
    await release();
  }
}

async function readHolder(path: string): Promise<string | null> {
  const handle = await openRegular(path).catch((error) => (isMissing(error) ? null : Promise.reject(error)));
  if (handle === null) return null;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_HOLDER_BYTES), 0, MAX_HOLDER_BYTES, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** What cannot be read as a holder was not written by us, so nobody living holds it. */
async function isAlive(text: string): Promise<boolean> {
  const holder = parseHolder(text);
  if (holder === null || holder.boot !== (await bootId())) return false;
  const start = await startOf(holder.pid);
  return start !== null && start === holder.start;
}

function parseHolder(text: string): Holder | null {
  try {
    const value = JSON.parse(text) as Partial<Holder> | null;
    const isHolder = Number.isSafeInteger(value?.pid) && typeof value?.start === 'string';
    return isHolder && typeof value?.boot === 'string' ? (value as Holder) : null;
  } catch {
    return null;
  }
}

async function thisProcess(): Promise<Holder> {
  const start = await startOf(process.pid);
  return { pid: process.pid, start: start ?? '', boot: await bootId(), nonce: randomUUID() };
}

const bootId = async (): Promise<string> =>
  (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();

/** Start time in clock ticks since boot; null when there is no such process, or only its zombie. */
async function startOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (text === null) return null;
  // The second field is the command in parentheses, which may itself hold spaces and parentheses.
  const [state, ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' || state === 'X' ? null : (rest[18] ?? null);
}
