import { asQxError, QxError } from '../errors.ts';
import type { ComponentEntry } from '../format/journal.ts';
import { type ComponentContext, Entries, type UndoContext } from './components/context.ts';
import { prune } from './components/prune.ts';
import { restartAndWatch, servicesOf } from './components/restart.ts';
import { dropBackup, restore } from './components/restore.ts';
import { swap, unpack } from './components/swap.ts';

/**
 * The components of one update, all or none: unpack everything, swap file by file with a way back, restart the services, ask
 * whether they stay up, and only then swap whoever runs this. Each step is in the journal before it is done. Knows no agent: a
 * control plane updates itself the same way.
 */

/**
 * Swaps the components in the order of `entries` and returns the entries as they were saved last. The running program itself is
 * swapped last and goes on running: its new file counts once the caller has ended and was started again.
 * @throws QxError of what failed, after everything was put back; it says so, and says what could not be
 */
export async function applyComponents(
  planned: readonly ComponentEntry[],
  context: ComponentContext,
): Promise<readonly ComponentEntry[]> {
  const entries = new Entries(planned, context);
  try {
    // Bad bytes are found here, while nothing installed has been touched.
    for (const entry of entries.list) await unpack(entry, entries, context);
    await swapAndRestart(entries, context);
  } catch (error) {
    return undoBecause(error, entries.list, context);
  }
  // Tidying up comes after the last reason to undo, and is none itself.
  await tidy(entries.list, context);
  return entries.list;
}

async function swapAndRestart(entries: Entries, context: ComponentContext): Promise<void> {
  const { self } = context;
  const others = entries.list.filter((entry) => entry.name !== self.name);
  const own = entries.list.filter((entry) => entry.name === self.name);
  for (const entry of others) await swapOne(entry, entries, context);
  for (const service of servicesOf(others, context)) await restartAndWatch(service, context);
  for (const { name } of others) {
    const entry = entries.list.find((e) => e.name === name);
    if (entry !== undefined) await context.probe?.(entry);
    await entries.change(name, { state: 'done' });
  }
  for (const entry of own) {
    await swapOne(entry, entries, context);
    await entries.change(entry.name, { state: 'done' });
  }
}

async function swapOne({ name, version }: ComponentEntry, entries: Entries, context: ComponentContext): Promise<void> {
  if (context.signal?.aborted) throw new QxError('CANCELLED', 'the update was cancelled');
  const entry = entries.list.find((candidate) => candidate.name === name);
  if (entry === undefined) return;
  context.progress?.(entry);
  context.log.info('component_swap', { name, version });
  await swap(entry, entries, context);
}

async function undoBecause(
  error: unknown,
  entries: readonly ComponentEntry[],
  context: ComponentContext,
): Promise<never> {
  const { code, message, next } = asQxError(error);
  const options = { cause: error, ...(next === undefined ? {} : { next }) };
  try {
    await undoComponents(entries, context);
  } catch (undoError) {
    throw new QxError(code, `${message}; putting everything back failed too: ${asQxError(undoError).message}`, options);
  }
  throw new QxError(code, `${message}; every component of this update was put back`, options);
}

/**
 * Takes back whatever of these components was begun, newest first, and restarts their services with the old bytes. Safe in every
 * state, after a crash at any point, and twice.
 * @throws QxError naming every component and service that could not be put back, after all others were
 */
export async function undoComponents(
  begun: readonly ComponentEntry[],
  context: UndoContext,
): Promise<readonly ComponentEntry[]> {
  const entries = new Entries(begun, context);
  const failures: unknown[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      context.log.warn('undo_failed', { what, detail: asQxError(error).message });
      failures.push(error);
      return false;
    }
  };

  for (const { name, state } of entries.list) if (state === 'final') context.log.warn('undo_without_backup', { name });
  const toRestore = entries.list.filter(({ state }) => state !== 'undone' && state !== 'final').toReversed();
  const restored: ComponentEntry[] = [];
  for (const entry of toRestore) if (await attempt(entry.name, () => restore(entry, context))) restored.push(entry);
  await restartRestored(restored, context, attempt);
  // Only now: cut off before, all of it is done again, the restarts too.
  for (const { name } of restored) await attempt(name, () => entries.change(name, { state: 'undone' }));
  if (failures.length === 0) return entries.list;
  const reasons = failures.map((error) => asQxError(error).message).join('; ');
  throw new QxError(asQxError(failures[0]).code, `not everything could be put back: ${reasons}`, {
    cause: failures[0],
  });
}

type Attempt = (what: string, work: () => Promise<unknown>) => Promise<boolean>;

async function restartRestored(
  restored: readonly ComponentEntry[],
  context: UndoContext,
  attempt: Attempt,
): Promise<void> {
  const { services, log } = context;
  const touched = restored.filter(({ state }) => state !== 'pending');
  for (const service of servicesOf(touched, context)) {
    const had = touched.some((entry) => entry.restart_service === service && entry.backup !== null);
    if (services.standIn !== null) log.info('service_not_restarted', { service, reason: services.standIn });
    // Without a program from before there is nothing to start.
    else if (had) await attempt(service, () => services.restart(service));
  }
}

/** Once nobody will go back behind this update: backups that were only kept for it go. */
export async function settleComponents(
  entries: readonly ComponentEntry[],
  context: UndoContext,
): Promise<readonly ComponentEntry[]> {
  const settled = new Entries(entries, context);
  for (const entry of entries) {
    if (entry.state !== 'done' || entry.keep_backup !== false || entry.name === context.self.name) continue;
    // First the journal: an undo that found no backup would take that for "there was nothing before".
    await settled.change(entry.name, { state: 'final' });
    await dropBackup(entry, context);
  }
  return settled.list;
}

async function tidy(entries: readonly ComponentEntry[], context: UndoContext): Promise<void> {
  for (const entry of entries) {
    try {
      await prune(entry, context);
    } catch (error) {
      context.log.warn('backup_prune_failed', { name: entry.name, detail: asQxError(error).message });
    }
  }
}
