import type { ComponentEntry } from '../../format/journal.ts';
import type { Archive, ArchiveRef, Clock, Files, Log, Services } from '../../ports.ts';

/** What taking components back needs, which is all that there is after a crash. */
export interface UndoContext {
  readonly files: Files;
  readonly services: Services;
  readonly clock: Clock;
  readonly log: Log;
  /** Makes these the journal's components, on disk when it returns. */
  save(entries: readonly ComponentEntry[]): Promise<void>;
  readonly paths: {
    /** The folder of one component's replaced files: `YYYYMMDDTHHMMSSZ-VERSION/FILE`. */
    backupsOf(name: string): string;
    readonly versions: string;
  };
  readonly maxBackups: number;
  /** Whoever runs this: swapped like the others, but neither its service nor itself is ever restarted from here. */
  readonly self: { readonly name: string; readonly service: string };
}

export interface ComponentContext extends UndoContext {
  readonly archive: Archive;
  /** The staged archive of a component, and which bytes were signed. */
  artifact(entry: ComponentEntry): ArchiveRef;
  /** How long a restarted service has to stay up. */
  readonly settleMs: number;
  /** Asks the component itself, once its service has settled. @throws QxError PROBE_FAILED */
  probe?(entry: ComponentEntry): Promise<void>;
  /** This one is swapped now. */
  progress?(entry: ComponentEntry): void;
  readonly signal?: AbortSignal;
}

/** The entries of one transaction; each change is in the journal before the next effect. */
export class Entries {
  private all: readonly ComponentEntry[];
  private readonly saveAll: UndoContext['save'];

  constructor(entries: readonly ComponentEntry[], context: Pick<UndoContext, 'save'>) {
    this.all = entries;
    this.saveAll = context.save;
  }

  get list(): readonly ComponentEntry[] {
    return this.all;
  }

  async change(name: string, fields: Partial<ComponentEntry>): Promise<ComponentEntry> {
    const old = this.all.find((entry) => entry.name === name);
    if (old === undefined) throw new TypeError(`no component ${name} in this update`);
    const changed = { ...old, ...fields };
    const all = this.all.map((entry) => (entry === old ? changed : entry));
    await this.saveAll(all);
    this.all = all;
    return changed;
  }
}
