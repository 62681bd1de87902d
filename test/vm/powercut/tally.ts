import { readFile, rename, writeFile } from 'node:fs/promises';

/** What a campaign has come to, over as many runs as it took. */
export interface Tally {
  readonly seed: number;
  /** GRUB decided so many states on the disk itself, and would boot these slots. */
  readonly decided: { readonly A: number; readonly B: number };
  /** So many whole disks were started in QEMU, and ran these slots. */
  readonly booted: { readonly A: number; readonly B: number };
  /** QEMU was killed so often at a random moment of an update, and the next start ran these slots. */
  readonly killed: { readonly A: number; readonly B: number };
  /** Names of states after which the host was not well. */
  readonly bricks: readonly string[];
  /** The first state that is not decided yet. */
  readonly next: { readonly round: number; readonly state: number };
}

const nothing = { A: 0, B: 0 };

export const newTally = (seed: number): Tally => ({
  seed,
  decided: nothing,
  booted: nothing,
  killed: nothing,
  bricks: [],
  next: { round: 0, state: 0 },
});

/** With one more `what` that came to this; null is a brick. */
export const counted = (
  tally: Tally,
  what: 'decided' | 'booted' | 'killed',
  id: string,
  slot: 'A' | 'B' | null,
): Tally =>
  slot === null
    ? { ...tally, bricks: [...tally.bricks, `${what} ${id}`] }
    : { ...tally, [what]: { ...tally[what], [slot]: tally[what][slot] + 1 } };

/** Null when there is none, or one of another seed. */
export async function loadTally(path: string, seed: number): Promise<Tally | null> {
  const text = await readFile(path, 'utf8').catch(() => null);
  const tally: Tally | null = text === null ? null : JSON.parse(text);
  return tally?.seed === seed ? tally : null;
}

export async function saveTally(path: string, tally: Tally): Promise<void> {
  await writeFile(`${path}.new`, `${JSON.stringify(tally, null, 2)}\n`);
  await rename(`${path}.new`, path);
}
