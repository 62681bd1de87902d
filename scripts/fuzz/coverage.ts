import { type Profiler, Session } from 'node:inspector';

/** Characters of a script that ran, one byte each; by its URL. */
type Painted = ReadonlyMap<string, Uint8Array>;

/** Which characters of the sources ran. V8 merges blocks that ran equally often, so only characters can be compared. */
export class Coverage {
  private readonly session = new Session();
  private readonly seen = new Map<string, Uint8Array>();
  private readonly pattern: RegExp;

  /** Counts from now on, in scripts that are loaded later too. */
  constructor(pattern: RegExp) {
    this.pattern = pattern;
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** What ran since it was last asked. */
  take(): Painted {
    const scripts: Profiler.ScriptCoverage[] = [];
    // Without a thread of its own between us and the inspector, this is called back before `post` returns.
    this.session.post('Profiler.takePreciseCoverage', (_error, { result }) => void scripts.push(...result));
    return new Map(scripts.filter(({ url }) => this.pattern.test(url)).map((script) => [script.url, paint(script)]));
  }

  isFresh(painted: Painted): boolean {
    for (const [url, ran] of painted) {
      const before = this.seen.get(url);
      for (let at = ran.indexOf(1); at >= 0; at = ran.indexOf(1, at + 1)) if (before?.[at] !== 1) return true;
    }
    return false;
  }

  note(painted: Painted): void {
    for (const [url, ran] of painted) {
      const before = this.seen.get(url) ?? new Uint8Array(0);
      const all = new Uint8Array(Math.max(before.length, ran.length));
      all.set(before);
      for (let at = ran.indexOf(1); at >= 0; at = ran.indexOf(1, at + 1)) all[at] = 1;
      this.seen.set(url, all);
    }
  }

  forget(): void {
    this.seen.clear();
  }

  size(): number {
    return [...this.seen.values()].reduce((sum, bits) => sum + bits.reduce((count, bit) => count + bit, 0), 0);
  }
}

/** Ranges come from the outside in: each inner one says it better. */
function paint({ functions }: Profiler.ScriptCoverage): Uint8Array {
  const ranges = functions.flatMap((one) => one.ranges);
  const ran = new Uint8Array(ranges.reduce((end, { endOffset }) => Math.max(end, endOffset), 0));
  for (const { startOffset, endOffset, count } of ranges) ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  return ran;
}
