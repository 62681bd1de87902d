import { readInstalled } from '../delivery/components/versions.ts';
import { isVersion } from '../format/version.ts';
import type { Files, Log } from '../ports.ts';
import { badPath, badVersions } from './carried.ts';
import { type Host, PATHS } from './host.ts';

/** The agent's side of the agreement with `node-run`, which starts it, counts its starts and takes a bad one back. */

export const SELF = 'qx-node';
export const AGENT_SERVICE = 'quantix-node';
/** Wherever else backups are kept: a shell script that has no configuration puts the agent back from here. */
export const SELF_BACKUPS = `/data/updates/backup/${SELF}`;

const STARTED_OK = `${PATHS.run}/started-ok`;
const START = `${PATHS.run}/node-start`;
const STARTS = '/data/updates/node-starts';
const BAD_REASON = `${PATHS.versions}/${SELF}.bad-reason`;
const PROVEN = `${PATHS.versions}/${SELF}.proven`;
const MAX_LINE_BYTES = 4096;
const MAX_REASON_LENGTH = 500;

/** The version on the disk, which another process than this one may have been started from; null when there is none. */
export const installedSelf = async ({ files }: Pick<Host, 'files'>): Promise<string | null> =>
  (await readInstalled(files, PATHS.versions)).get(SELF) ?? null;

/** For whoever is not the agent itself: it must not end its own process in the middle of what it does. */
export async function restartPutBackAgent({ services, log }: Host): Promise<void> {
  if (services.standIn !== null) return log.warn('agent_not_restarted', { detail: services.standIn });
  if ((await services.state(AGENT_SERVICE)) !== 'started') return;
  await services.restart(AGENT_SERVICE).catch((error) => log.warn('agent_not_restarted', { detail: String(error) }));
}

/** This executable has been up for a while: its starts are no longer counted against it, and it can do with these settings. */
export async function reportStarted({ files, log }: { files: Files; log: Log }): Promise<void> {
  // Either is enough for node-run and node-watch: a full /run or a read-only /data must not look like an agent that died.
  const [mark, count] = await Promise.allSettled([
    files.writeAtomic(STARTED_OK, new Uint8Array(), 0o644),
    files.remove(STARTS),
  ]);
  for (const { reason } of [mark, count].filter((done) => done.status === 'rejected')) {
    log.warn('start_not_reported', { detail: String(reason) });
  }
  if (mark.status === 'rejected' && count.status === 'rejected') throw mark.reason;
  const version = await startedVersion(files);
  if (version === null || (await lineOf(files, PROVEN)) === version) return;
  await files.writeAtomic(PROVEN, new TextEncoder().encode(`${version}\n`), 0o644);
}

/** The version that runs was up and well on this host before: when it refuses its settings, these are what has changed. */
export async function isProven(files: Files): Promise<boolean> {
  const version = await startedVersion(files);
  return version !== null && (await lineOf(files, PROVEN)) === version;
}

/** As what node-run has started this process; null when something else did. */
async function startedVersion(files: Files): Promise<string | null> {
  const version = (await lineOf(files, START))?.split(' ')[0];
  return version !== undefined && isVersion(version) ? version : null;
}

/** Why node-run gave this version of the agent up; null when it did not. */
export async function whyGivenUp(files: Files, version: string): Promise<string | null> {
  if (!(await badVersions(files, SELF)).includes(version)) return null;
  const line = await lineOf(files, BAD_REASON);
  if (line === null || !line.startsWith(`${version} `)) return 'did not start';
  return line.slice(version.length + 1, version.length + 1 + MAX_REASON_LENGTH);
}

/** Before the same version is installed once more: node-run would not even start it. */
export async function forgetGivenUp(files: Files, version: string): Promise<void> {
  const bad = await badVersions(files, SELF);
  if (!bad.includes(version)) return;
  const others = bad.filter((other) => other !== version && other !== '');
  await files.writeAtomic(badPath(SELF), new TextEncoder().encode(others.map((other) => `${other}\n`).join('')), 0o644);
}

/** The first line, in plain characters: a shell script wrote it, on a disk that may be damaged. */
async function lineOf(files: Files, path: string): Promise<string | null> {
  const bytes = await files.read(path, MAX_LINE_BYTES).catch(() => null);
  if (bytes === null) return null;
  const [line = ''] = new TextDecoder().decode(bytes).split('\n');
  return line.replace(/[^\x20-\x7e]/g, '?').trim();
}
