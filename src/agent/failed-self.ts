import type { Slot } from '../format/grubenv.ts';
import type { Journal } from '../format/journal.ts';
import type { Host } from './host.ts';
import { finishRollBack, rememberFailure, tell, undoComponentsOf, withdraw } from './outcome.ts';
import { installedSelf, SELF, whyGivenUp } from './self.ts';
import { advance } from './store.ts';

/**
 * An update brought an agent that node-run had to take back. The components of a release belong together, so the rest of it goes
 * as well; no floor stands against that, for the agent has gone back already. An image that waits for its reboot is not booted
 * any more. One that is on trial is the health gate's, and one that was confirmed stays: it has an agent of its own.
 */

type Failure = NonNullable<Journal['error']>;

/** Null while the agent that this update brought is well, or was never started. */
export async function failureOfSelf({ files }: Pick<Host, 'files'>, journal: Journal): Promise<Failure | null> {
  const self = journal.components.find(({ name }) => name === SELF);
  if (self === undefined || self.state === 'pending' || self.state === 'undone') return null;
  const why = await whyGivenUp(files, self.version);
  if (why === null) return null;
  const isReplaced = (await installedSelf({ files })) !== self.version;
  const instead = isReplaced ? 'the previous one was put back' : "the image's own runs instead";
  const staying = journal.components.filter(({ state }) => state === 'final').map((c) => `${c.name} ${c.version}`);
  const stays = staying.length === 0 ? '' : `; without a backup, and left as it is: ${staying.join(', ')}`;
  return { code: 'AGENT_FAILED', detail: `${SELF} ${self.version} ${why}; ${instead}${stays}` };
}

/** Repeats without harm: the phase that is saved first leads `recover` to the same end. */
export async function takeBackWithSelf(host: Host, journal: Journal | null): Promise<Journal | null> {
  if (journal === null) return null;
  const end = endOf(journal, (await host.boot.booted()).slot);
  if (end === undefined) return journal;
  const error = await failureOfSelf(host, journal);
  if (error === null) return journal;
  const { id, target_version: version } = journal;
  host.log.warn('agent_failed', { id, version, ...error });
  await rememberFailure(host, journal, error, true);
  return end(host, await withoutSelf(host, journal), error);
}

type End = (host: Host, journal: Journal, error: Failure) => Promise<Journal>;

function endOf({ phase, image, target_slot }: Journal, booted: Slot | null): End | undefined {
  if (phase === 'complete') return image === null ? rollBack : undefined;
  if (phase === 'applying') return undo;
  return phase === 'armed' && booted !== target_slot ? disarmAndUndo : undefined;
}

const rollBack: End = async (host, journal, error) =>
  finishRollBack(host, await advance(host, journal, 'rollBack', { pending: false, error }));

const undo: End = async (host, journal, error) => failed(host, await advanceUndo(host, journal, error));

const advanceUndo = async (host: Host, journal: Journal, error: Failure): Promise<Journal> =>
  undoComponentsOf(host, await advance(host, journal, 'undo', { error }));

const disarmAndUndo: End = async (host, journal, error) => failed(host, await withdraw(host, journal, error));

async function failed(host: Host, journal: Journal): Promise<Journal> {
  await tell(host, journal, 'failed');
  return journal;
}

/** What node-run has put back is not put back again: it may have passed over a backup that is bad as well. */
async function withoutSelf(host: Host, journal: Journal): Promise<Journal> {
  const installed = await installedSelf(host);
  const components = journal.components.map((entry) =>
    entry.name === SELF && entry.version !== installed ? { ...entry, state: 'undone' as const } : entry,
  );
  return { ...journal, components };
}
