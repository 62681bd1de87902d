import { readFile } from 'node:fs/promises';

/** The one child of `unshare --fork`: process 1 of its namespaces. Empty while there is none. */
export const childOf = async (pid: number | undefined): Promise<string> =>
  (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')).trim();
