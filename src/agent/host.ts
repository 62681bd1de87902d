import type { Config } from '../format/config.ts';
import type { Keyring } from '../format/keyring.ts';
import type { Audit } from '../ports/audit.ts';
import type { Bundles } from '../ports/bundle.ts';
import type { Disks } from '../ports/disks.ts';
import type { Duties, Offer, Report } from '../ports/offer.ts';
import type { Ranges } from '../ports/serving.ts';
import type {
  Archive,
  Boot,
  Clock,
  Disk,
  Files,
  Hooks,
  Http,
  LocalAgent,
  Log,
  Process,
  Random,
  Services,
} from '../ports.ts';

/** Everything that the agent's journeys may use of the machine they run on. Composed once, in `cli/serve.ts`. */
export interface Host {
  readonly config: Config;
  readonly keyring: Keyring;
  /** The clock of a host is never believed to be earlier than this. */
  readonly buildDateMs: number;
  readonly isRoot: boolean;
  readonly files: Files;
  readonly ranges: Ranges;
  readonly archive: Archive;
  readonly http: Http;
  readonly bundles: Bundles;
  readonly disk: Disk;
  readonly disks: Disks;
  readonly boot: Boot;
  readonly services: Services;
  readonly process: Process;
  readonly hooks: Hooks;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly offer: Offer;
  readonly report: Report;
  readonly duties: Duties;
  readonly audit: Audit;
  /** The agent daemon of this host, asked from outside it. */
  readonly agent: LocalAgent;
}

export const PATHS = {
  journal: '/quantix/ab-update-state.json',
  memory: '/quantix/limiquantix/state.json',
  history: '/quantix/limiquantix/history.json',
  versions: '/data/versions',
  scratch: '/data/updates/scratch',
  run: '/run/quantix',
  lock: '/run/quantix/update.lock',
  inhibit: '/run/quantix/inhibit',
  osVersion: '/etc/quantix-version',
  osRelease: '/etc/quantix-release',
} as const;

/** Names the trial that was confirmed in this boot: its deadline ends when it finds this. */
export const CONFIRMED_PATH = `${PATHS.run}/confirmed`;

export type ProgressPhase = 'checking' | 'downloading' | 'writing' | 'applying';

export interface Progress {
  readonly phase: ProgressPhase;
  /** The artifact or component that is being worked on. */
  readonly name: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** How somebody follows a journey, and how they stop it. */
export interface Watch {
  readonly signal?: AbortSignal;
  readonly progress?: (progress: Progress) => void;
}

export const instant = (clock: Clock): string => new Date(clock.nowMs()).toISOString();

/** Whole milliseconds since it was last asked, or begun. */
export function stopwatch({ monotonicMs }: Clock): () => number {
  const last = { ms: monotonicMs() };
  return () => {
    const before = last.ms;
    last.ms = monotonicMs();
    return Math.round(last.ms - before);
  };
}
