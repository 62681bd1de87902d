import { writeFileSync } from 'node:fs';
import { applyEdit, type Edit, KINDS } from '../../test/fuzz/edits.ts';
import {
  attempt,
  bytesOf,
  maxBytesOf,
  type Outcome,
  type Running,
  type Target,
  Violation,
} from '../../test/fuzz/target.ts';
import { Coverage } from './coverage.ts';

/**
 * Changes inputs at random and keeps those that get the decoder to do something new: to run source that never ran, or to
 * refuse for a reason that was never given (most checks of a shape are one piece of library code that reads a schema).
 */

export interface Report {
  readonly executions: number;
  readonly corpus: readonly Uint8Array[];
  readonly found: number;
  readonly coveredCharacters: number;
  readonly reasons: number;
  readonly slowestMs: number;
  readonly growthMib: number;
  readonly crashes: readonly { readonly reason: string; readonly input: Uint8Array }[];
}

export interface HuntOptions {
  /** Of earlier hunts; the target's seeds are tried anyway, and stay out of the corpus. */
  readonly corpus: readonly Uint8Array[];
  readonly durationMs: number;
  readonly seed: number;
  /** Holds the input that is being tried: what is left when the process dies of it. */
  readonly runningPath: string;
}

const OUR_SOURCES = /\/src\/.*\.ts$/;
/** Asking for the coverage costs more than decoding: once for so many inputs. */
const BATCH = 48;
/** Each reason is a file in the corpus: a decoder that says something else each time must not fill it. */
const MAX_REASONS = 60;
/** In the repository, for each target. */
const MAX_CORPUS = 60;
const MAX_EDITS = 6;

export async function hunt(target: Target, options: HuntOptions): Promise<Report> {
  const coverage = new Coverage(target.covers ?? OUR_SOURCES);
  const running = await target.start();
  try {
    return await new Hunt(target, running, coverage, options).report();
  } finally {
    await running.close?.();
  }
}

class Hunt {
  private readonly reasons = new Set<string>();
  private readonly crashes = new Map<string, Uint8Array>();
  private readonly target: Target;
  private readonly running: Running;
  private readonly coverage: Coverage;
  private readonly options: HuntOptions;
  private readonly random: () => number;
  private pool: Uint8Array[] = [];
  private executions = 0;
  private slowestMs = 0;
  private found = 0;

  constructor(target: Target, running: Running, coverage: Coverage, options: HuntOptions) {
    this.target = target;
    this.running = running;
    this.coverage = coverage;
    this.options = options;
    this.random = randomFrom(options.seed);
  }

  async report(): Promise<Report> {
    await this.keepNew(this.seeds());
    await this.keepNew(this.options.corpus);
    const startMs = performance.now();
    const beganKb = process.resourceUsage().maxRSS;
    while (performance.now() - startMs < this.options.durationMs) await this.batch();
    const corpus = await this.distilled();
    return {
      executions: this.executions,
      corpus,
      found: this.found,
      coveredCharacters: this.coverage.size(),
      reasons: this.reasons.size,
      slowestMs: this.slowestMs,
      growthMib: Math.round((process.resourceUsage().maxRSS - beganKb) / 1024),
      crashes: [...this.crashes].map(([reason, input]) => ({ reason, input })),
    };
  }

  private async batch(): Promise<void> {
    const inputs = Array.from({ length: BATCH }, () => this.invent());
    const telling: Uint8Array[] = [];
    for (const input of inputs) if (await this.isNewReason(input)) telling.push(input);
    const ran = this.coverage.take();
    const isFresh = this.coverage.isFresh(ran);
    this.found += await this.keepNew(isFresh ? inputs : telling, new Set(telling));
    // What only ran by chance, or by several of them together, must not bring every later batch here.
    this.coverage.note(ran);
  }

  /** Keeps each input that runs what none before it ran. */
  private async keepNew(inputs: readonly Uint8Array[], anyway: ReadonlySet<Uint8Array> = new Set()): Promise<number> {
    let kept = 0;
    for (const input of inputs) {
      this.coverage.take();
      const isNewReason = await this.isNewReason(input);
      const ran = this.coverage.take();
      if (!isNewReason && !anyway.has(input) && !this.coverage.isFresh(ran)) continue;
      this.coverage.note(ran);
      if (input.length <= maxBytesOf(this.target)) this.pool.push(input);
      kept += 1;
    }
    return kept;
  }

  /** The smallest inputs that together do all that the pool does. */
  private async distilled(): Promise<readonly Uint8Array[]> {
    const pool = this.pool.toSorted((a, b) => a.length - b.length);
    this.coverage.forget();
    this.reasons.clear();
    await this.keepNew(this.seeds().filter((seed) => seed.length <= maxBytesOf(this.target)));
    this.pool = [];
    await this.keepNew(pool);
    return this.pool.slice(0, MAX_CORPUS);
  }

  private readonly seeds = (): Uint8Array[] => Object.values(this.target.seeds).map(bytesOf);

  private async isNewReason(input: Uint8Array): Promise<boolean> {
    const outcome = await this.attempt(input);
    if (outcome === null) return false;
    const reason = reasonOf(outcome.refusal ?? { code: '', message: outcome.answer });
    if (this.reasons.has(reason) || this.reasons.size >= MAX_REASONS) return false;
    this.reasons.add(reason);
    return true;
  }

  /** Null when the decoder broke its contract: the first input for each way of breaking it is kept. */
  private async attempt(input: Uint8Array): Promise<Outcome | null> {
    writeFileSync(this.options.runningPath, input);
    this.executions += 1;
    try {
      const outcome = await attempt(this.target, this.running, input);
      this.slowestMs = Math.max(this.slowestMs, outcome.cpuMs);
      return outcome;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const reason = reasonOf({ code: '', message: error.message });
      if (!this.crashes.has(reason)) this.crashes.set(reason, input);
      return null;
    }
  }

  private invent(): Uint8Array {
    const edits = Array.from({ length: 1 + Math.floor(this.random() * MAX_EDITS) }, () => this.edit());
    const { dictionary, repair } = this.target;
    const material = { dictionary, other: this.one(), maxBytes: maxBytesOf(this.target) };
    const invented = edits.reduce((bytes, edit) => applyEdit(bytes, edit, material), this.one());
    return repair?.(invented) ?? invented;
  }

  /** Any of the pool, half of the time one of those that were found last. */
  private one(): Uint8Array {
    const { length } = this.pool;
    const isLate = this.random() < 0.5;
    const from = isLate ? Math.max(0, length - 16) : 0;
    return this.pool[from + Math.floor(this.random() * (length - from))] ?? new Uint8Array(0);
  }

  private edit(): Edit {
    return {
      kind: KINDS[Math.floor(this.random() * KINDS.length)] ?? 'flip',
      at: this.random(),
      from: this.random(),
      lengthBytes: Math.ceil(2 ** (this.random() * 8)),
      choice: Math.floor(this.random() * 2 ** 31),
    };
  }
}

/** Without what the input itself put into the message. */
const reasonOf = ({ code, message }: { code: string; message: string }): string =>
  `${code} ${message.replaceAll(/"(?:[^"\\]|\\.)*"|[0-9]+|[^\x20-\x7e]/g, '').slice(0, 100)}`;

/** Mulberry32: the same seed hunts the same way. */
function randomFrom(seed: number): () => number {
  const state = Uint32Array.of(seed);
  return () => {
    const next = ((state[0] ?? 0) + 0x6d2b79f5) >>> 0;
    state[0] = next;
    const mixed = Math.imul(next ^ (next >>> 15), next | 1);
    const again = mixed ^ (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61));
    return ((again ^ (again >>> 14)) >>> 0) / 2 ** 32;
  };
}
