import { withBad } from '../core/memory.ts';
import type { Journal } from '../format/journal.ts';
import { type Host, instant, PATHS } from './host.ts';
import { loadJournal, loadMemory, saveMemory } from './store.ts';

/** The agent's side of the agreement with `node-run`, which starts it, counts its starts and takes a bad one back. */

export const SELF = 'qx-node';
export const AGENT_SERVICE = 'quantix-node';
/** Wherever else backups are kept: a shell script that has no configuration puts the agent back from here. */
export const SELF_BACKUPS = `/data/updates/backup/${SELF}`;
const STARTED_OK = `${PATHS.run}/started-ok`;
const STARTS = '/data/updates/node-starts';
const BAD_VERSIONS = `${PATHS.versions}/${SELF}.bad`;
const MAX_BYTES = 65_536;

/** The agent's executable on the disk was put back between these two: whichever process runs now may be the other one. */
export function isSelfPutBack(before: Journal | null, after: Journal | null): boolean {
  const stateIn = (journal: Journal | null) => journal?.components.find((c) => c.name === SELF)?.state;
  const was = stateIn(before);
  return before?.id === after?.id && was !== 'pending' && was !== 'undone' && stateIn(after) === 'undone';
}

/** For whoever is not the agent itself: it must not end its own process in the middle of what it does. */
export async function restartPutBackAgent({ services, log }: Host): Promise<void> {
  if (services.standIn !== null) return log.warn('agent_not_restarted', { detail: services.standIn });
  if ((await services.state(AGENT_SERVICE)) !== 'started') return;
  await services.restart(AGENT_SERVICE).catch((error) => log.warn('agent_not_restarted', { detail: String(error) }));
}

/** This executable has been up for a while: its starts are no longer counted against it. */
export async function reportStarted({ files }: Host): Promise<void> {
  await files.writeAtomic(STARTED_OK, new Uint8Array(), 0o644);
  await files.remove(STARTS);
}

/** node-run put the old executable back: the release that brought the bad one is not taken again by itself. */
export async function noticeReplacedSelf(host: Host): Promise<void> {
  const journal = await loadJournal(host);
  const version = journal?.components.find((c) => c.name === SELF)?.version;
  if (journal === null || version === undefined) return;
  const bytes = await host.files.read(BAD_VERSIONS, MAX_BYTES);
  const bad = bytes === null ? [] : new TextDecoder().decode(bytes).split('\n');
  const memory = await loadMemory(host);
  if (!bad.includes(version) || memory.bad.some((b) => b.release_digest === journal.release_digest)) return;
  const reason = `${SELF} ${version} did not start; the previous one was put back`;
  host.log.warn('agent_replaced', { version, reason });
  const { target_version, release_digest } = journal;
  await saveMemory(host, withBad(memory, { version: target_version, release_digest, at: instant(host.clock), reason }));
}
