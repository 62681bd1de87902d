import { readdir, readFile } from 'node:fs/promises';

/** What the kernel counts for a process and for everything that it has started. */

const MS_PER_TICK = 10;

/** Of the process and its living descendants; of those that ended, what their parents were told. */
export async function cpuMsOf(pid: number): Promise<number> {
  const times = await Promise.all(
    (await familyOf(pid)).map(async (member) => {
      const fields = await statOf(member);
      return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * MS_PER_TICK;
    }),
  );
  return times.reduce((sum, ms) => sum + ms, 0);
}

/** In bytes, the sum over the process and its living descendants. `VmHWM` is the highest that `VmRSS` ever was. */
export async function memoryOf(pid: number, field: 'VmHWM' | 'VmRSS'): Promise<{ bytes: number; processes: number }> {
  const family = await familyOf(pid);
  const sizes = await Promise.all(family.map((member) => sizeOf(member, field)));
  return { bytes: sizes.reduce((sum, bytes) => sum + bytes, 0), processes: family.length };
}

async function familyOf(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number((await statOf(Number(name)))[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const family = [pid];
  for (const member of family) family.push(...(children.get(member) ?? []));
  return family;
}

/** From the state on: the name before it may hold blanks and brackets. Empty when the process is gone. */
async function statOf(pid: number): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

async function sizeOf(pid: number, field: string): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'latin1').catch(() => '');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024;
}
