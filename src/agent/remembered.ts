import { memoryFrom } from '../core/memory-anew.ts';
import { asQxError, isCode } from '../errors.ts';
import { saidOsVersion } from './facts.ts';
import { type Host, PATHS } from './host.ts';
import { loadMemory, openJournal, saveMemory } from './store.ts';

/**
 * The file in which a host remembers its floor is damaged. It is never begun anew by itself, since whoever can spoil it would lift
 * the floor; a person says so, and the floor is then what this host can be sure of. Before anything that needs it. With the lock
 * held. @throws QxError STATE_TOO_NEW
 */
export async function rememberAnew(host: Host, reason: string, actor: string): Promise<void> {
  const fault = await loadMemory(host).then(
    () => null,
    (error: unknown) => asQxError(error),
  );
  if (fault === null) return;
  if (!isCode(fault, 'STATE_INVALID')) throw fault;
  const keptAs = `${PATHS.memory}.bad`;
  const memory = memoryFrom(await openJournal(host), await saidOsVersion(host.files));
  // The name is never free in between: a host without the file is one that has no floor.
  await host.files.remove(keptAs);
  await host.files.duplicate(PATHS.memory, keptAs);
  await saveMemory(host, memory);
  const fields = { reason, floor: memory.floor, kept_as: keptAs };
  await host.audit.record({ event: 'memory_begun_anew', actor, code: fault.code, detail: fault.message, fields });
}
