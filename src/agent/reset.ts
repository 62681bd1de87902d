import { type Refusal, refusal } from '../core/plan.ts';
import { forgetSeen } from '../core/trust.ts';
import { isSettled } from '../core/update.ts';
import { type Host, PATHS } from './host.ts';
import { recover } from './recover.ts';
import { rememberAnew } from './remembered.ts';
import { loadJournal, loadMemory, saveJournal, saveMemory } from './store.ts';

export interface Resetting {
  readonly downloads: boolean;
  readonly seen: boolean;
  /** Why what this host remembers is begun anew, where it cannot be read. */
  readonly remembered?: string | undefined;
}

/** The operator has seen how the last update ended: the status says so no longer. What is installed stays as it is. */
export async function reset(
  host: Host,
  { downloads, seen, remembered }: Resetting,
  actor: string,
): Promise<Refusal | null> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refusal('BUSY', 'an update is under way on this host', 'qx-update cancel');
  try {
    if (remembered !== undefined) await rememberAnew(host, remembered, actor);
    await recover(host);
    const journal = await loadJournal(host);
    if (journal !== null && isSettled(journal.phase)) await saveJournal(host, { ...journal, dismissed: true });
    if (downloads) await clearDownloads(host);
    // A wrong date that got in has this one way out, and it is a person's.
    if (seen) await saveMemory(host, forgetSeen(await loadMemory(host), host.config));
    await host.audit.record({ event: 'status_reset', actor, fields: { downloads, seen } });
    return null;
  } finally {
    await unlock();
  }
}

/** An operator may have named a folder that holds other things too. */
const OURS = /^[a-f0-9]{64}\.(?:part|etag)$|\.(?:tar\.zst|tar\.gz|squashfs)$/;

async function clearDownloads({ files, config: { stagingDirectory } }: Host): Promise<void> {
  for (const name of await files.list(stagingDirectory)) {
    if (OURS.test(name)) await files.remove(`${stagingDirectory}/${name}`);
  }
}
