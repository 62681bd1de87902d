/**
 * What a disk may hold after a power cut. Whatever was flushed is there. Of what was written since, a drive with a volatile
 * cache may have kept any part: in order or not, and of one write only some of its sectors.
 */

export interface Write {
  readonly sectors: number;
}

/** Half-open, in sectors from the start of its write. */
export type Range = readonly [from: number, to: number];

/** A write that reached the disk, or of which these sectors did. */
export interface Part {
  /** Position in the epoch. */
  readonly write: number;
  readonly ranges: readonly Range[] | 'all';
}

export interface CrashState {
  readonly kind: 'prefix' | 'only' | 'without' | 'torn' | 'subset';
  /** In the order in which they were written. */
  readonly parts: readonly Part[];
}

/** Uniform in [0, 1), the same sequence for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  const state = { value: seed >>> 0 };
  return () => {
    state.value = (state.value + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state.value ^ (state.value >>> 15), state.value | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Subsets of an epoch that are tried besides those that have a name, and torn states of each write; times the density. */
const [SUBSETS, TORN] = [8, 4];

/** The states between two flushes. `epoch`: what was written between them; the state with all of it is the last prefix. */
export function* statesOf(epoch: readonly Write[], random: () => number, density = 1): Generator<CrashState> {
  const all = epoch.map((_, write): Part => ({ write, ranges: 'all' }));
  for (let length = 0; length <= all.length; length++) yield { kind: 'prefix', parts: all.slice(0, length) };
  yield* tornStates(epoch, all, random, density);
  if (all.length < 2) return;
  // The first alone, and all but the last, are prefixes.
  for (const part of all.slice(1)) yield { kind: 'only', parts: [part] };
  for (const part of all.slice(0, -1)) yield { kind: 'without', parts: all.filter((other) => other !== part) };
  for (let i = 0; i < SUBSETS * density; i++) yield { kind: 'subset', parts: all.filter(() => random() < 0.5) };
}

/** After all before it or alone, a part of one write. */
function* tornStates(
  epoch: readonly Write[],
  all: readonly Part[],
  random: () => number,
  density: number,
): Generator<CrashState> {
  for (const [write, { sectors }] of epoch.entries()) {
    if (sectors < 2) continue;
    for (let i = 0; i < TORN * density; i++) {
      const part = { write, ranges: tornRanges(sectors, i, random) };
      yield { kind: 'torn', parts: i % 2 === 0 ? [...all.slice(0, write), part] : [part] };
    }
  }
}

/** Its beginning, its end, or every sector by chance. */
function tornRanges(sectors: number, variant: number, random: () => number): readonly Range[] {
  const cut = 1 + Math.floor(random() * (sectors - 1));
  if (variant === 0) return [[0, cut]];
  if (variant === 1) return [[cut, sectors]];
  const kept = Array.from({ length: sectors }, (_, i) => i).filter(() => random() < 0.5);
  return kept.map((sector): Range => [sector, sector + 1]);
}

/** Between two flushes each. */
export function epochsOf<T extends { readonly kind: string }>(
  entries: readonly T[],
): readonly (readonly Extract<T, { kind: 'write' }>[])[] {
  const epochs: Extract<T, { kind: 'write' }>[][] = [[]];
  for (const entry of entries) {
    if (entry.kind === 'flush') epochs.push([]);
    else epochs.at(-1)?.push(entry as Extract<T, { kind: 'write' }>);
  }
  return epochs.filter((epoch) => epoch.length > 0);
}
