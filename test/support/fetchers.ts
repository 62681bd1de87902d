import { readdir, readFile, readlink } from 'node:fs/promises';
import { expect, vi } from 'vitest';

/** Processes that fetch, as the kernel sees them. */

/** Children of a process, those that nobody has reaped yet among them. */
export async function childrenOf(parent: number): Promise<readonly number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name)).map(Number);
  const parents = await Promise.all(pids.map(parentOf));
  return pids.filter((_, i) => parents[i] === parent);
}

/** Null when it is gone. */
async function parentOf(pid: number): Promise<number | null> {
  const text = await proc(pid, 'stat');
  return text === '' ? null : Number(text.slice(text.lastIndexOf(')')).split(' ')[2]);
}

/** What the kernel says of a process; empty when it is gone. */
export const proc = (pid: number, file: string): Promise<string> =>
  readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');

/** Where its descriptors lead, in their order. */
export async function descriptorsOf(pid: number): Promise<readonly string[]> {
  const names = await readdir(`/proc/${pid}/fd`);
  return Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`)));
}

export async function theFetcherOf(parent: number): Promise<number> {
  const [pid, ...others] = await vi.waitFor(async () => {
    const found = await childrenOf(parent);
    const commands = await Promise.all(found.map((one) => proc(one, 'cmdline')));
    const fetching = found.filter((_, i) => commands[i]?.endsWith('qx-fetch\0'));
    expect(fetching.length).toBeGreaterThan(0);
    return fetching;
  });
  if (pid === undefined || others.length > 0) throw new Error('there is more than one');
  return pid;
}

export const noneLeftOf = (parent: number): Promise<void> =>
  vi.waitFor(async () => expect(await childrenOf(parent)).toEqual([]), { timeout: 20_000 });
