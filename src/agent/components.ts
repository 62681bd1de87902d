import type { Plan } from '../core/plan.ts';
import type { UndoContext } from '../delivery/components/context.ts';
import { readInstalled } from '../delivery/components/versions.ts';
import { applyComponents, settleComponents, undoComponents } from '../delivery/components.ts';
import { QxError } from '../errors.ts';
import type { ComponentEntry, Journal } from '../format/journal.ts';
import type { Component } from '../format/manifest.ts';
import { type Host, PATHS, type Watch } from './host.ts';
import { AGENT_SERVICE, forgetGivenUp, SELF, SELF_BACKUPS } from './self.ts';
import { staged } from './staging.ts';
import { saveJournal } from './store.ts';

/** The component transaction of `delivery/components.ts`, kept in this host's journal. */

/** Chooses again which of the image's and /data's components are used. */
const CHOOSER_SERVICE = 'quantix-boot';
/** A restarted service has to stay up for so long. */
const SETTLE_MS = 3000;

export async function newEntries(host: Host, components: readonly Component[]): Promise<ComponentEntry[]> {
  const installed = await readInstalled(host.files, PATHS.versions);
  return components.map((c) => ({
    name: c.name,
    version: c.version,
    previous_version: installed.get(c.name) ?? null,
    artifact: c.artifact,
    install_path: c.install_path.replace(/\/$/, ''),
    kind: c.kind ?? null,
    permissions: c.permissions ?? '0755',
    restart_service: c.restart_service ?? null,
    unpacked_size_bytes: c.unpacked_size_bytes ?? null,
    backup: null,
    keep_backup: c.backup_before_update ?? true,
    state: 'pending',
  }));
}

/** @throws QxError when a component failed; all of them are put back then */
export async function swapComponents(host: Host, journal: Journal, plan: Plan, watch: Watch): Promise<Journal> {
  const tracked = track(host, journal);
  for (const { name, version } of journal.components) if (name === SELF) await forgetGivenUp(host.files, version);
  const signed = (name: string): Component => plan.components.find((c) => c.name === name) as Component;
  const totalBytes = journal.components.reduce((sum, { name }) => sum + signed(name).size_bytes, 0);
  const told = { doneBytes: 0 };
  await applyComponents(journal.components, {
    ...tracked.context,
    archive: host.archive,
    settleMs: SETTLE_MS,
    artifact: ({ name, artifact }) => {
      const { sha256, size_bytes: sizeBytes } = signed(name);
      return { path: staged(host, { artifact }), sha256, sizeBytes };
    },
    progress: ({ name }) => {
      watch.progress?.({ phase: 'applying', name, doneBytes: told.doneBytes, totalBytes });
      told.doneBytes += signed(name).size_bytes;
    },
    ...(watch.signal === undefined ? {} : { signal: watch.signal }),
  });
  await chooseAgain(host);
  return tracked.journal();
}

/**
 * Takes back what was begun; safe in every state, and twice. What cannot be put back is in the log and the journal, and is
 * not tried for ever: the host must stay able to take the update that repairs it.
 */
export async function putBack(host: Host, journal: Journal): Promise<Journal> {
  if (journal.components.length === 0) return journal;
  const tracked = track(host, journal);
  try {
    await undoComponents(journal.components, tracked.context);
  } catch (error) {
    if (!(error instanceof QxError)) throw error;
    const detail = [journal.error?.detail, error.message].filter((text) => text !== undefined).join('; ');
    return { ...tracked.journal(), error: { code: error.code, detail } };
  }
  await chooseAgain(host);
  return tracked.journal();
}

/** Nobody will go back behind this update any more. */
export async function settle(host: Host, journal: Journal): Promise<Journal> {
  const tracked = track(host, journal);
  await settleComponents(journal.components, tracked.context);
  return tracked.journal();
}

/** The running executable is not the installed one any more. */
export const restartsAgent = ({ components }: Journal): boolean => components.some((c) => c.name === SELF);

async function chooseAgain({ services, log }: Host): Promise<void> {
  if (services.standIn !== null || (await services.state(CHOOSER_SERVICE)) === 'unknown') return;
  // What is installed is installed; at the latest the next boot chooses it.
  await services.restart(CHOOSER_SERVICE).catch((error) => log.warn('choice_failed', { detail: String(error) }));
}

function track(host: Host, begun: Journal): { readonly context: UndoContext; journal(): Journal } {
  const state = { journal: begun };
  const { files, services, clock, log, config } = host;
  const context: UndoContext = {
    files,
    services,
    clock,
    log,
    paths: {
      backupsOf: (name) => (name === SELF ? SELF_BACKUPS : `${config.backupDirectory}/${name}`),
      versions: PATHS.versions,
    },
    maxBackups: config.maxBackups,
    self: { name: SELF, service: AGENT_SERVICE },
    save: async (components) => {
      state.journal = await saveJournal(host, { ...state.journal, components: [...components] });
    },
  };
  return { context, journal: () => state.journal };
}
