import { EMPTY_MEMORY, type Journal, type Memory } from '../format/journal.ts';
import { isNewer } from '../format/version.ts';

/**
 * What a host can be sure of when what it remembered is lost. A floor is never above what runs, nor, after the last update, above
 * what ran before it, unless that update has raised it: so this one is never below the one that was lost.
 */
export function memoryFrom(journal: Journal | null, osVersion: string | null): Memory {
  const last = journal?.phase === 'complete' && journal.is_whole ? journal : null;
  if (last === null || (osVersion !== null && isNewer(osVersion, last.target_version)))
    return { ...EMPTY_MEMORY, floor: osVersion ?? last?.target_version ?? null };
  const { previous_version, min_rollback_version: asked, target_version: version, release_date, release_digest } = last;
  const floor = asked !== null && isNewer(asked, previous_version) ? asked : previous_version;
  return { ...EMPTY_MEMORY, floor, committed: { version, release_date, release_digest } };
}
