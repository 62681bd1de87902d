/** Which tests lie nearest to a change, and fit into the time there is. */

/** A file of the project -> those that it imports or names. */
export type Mentions = ReadonlyMap<string, readonly string[]>;

/** How many steps each file is away from the nearest changed one; what does not lead to any is not in it. */
export function stepsFrom(changed: readonly string[], mentions: Mentions): ReadonlyMap<string, number> {
  const mentionedBy = new Map<string, string[]>();
  for (const [file, others] of mentions) {
    for (const other of others) mentionedBy.set(other, [...(mentionedBy.get(other) ?? []), file]);
  }
  const steps = new Map(changed.map((file) => [file, 0]));
  // A map is walked in the order of its making, and meets what is added on the way: the nearest first.
  for (const [file, step] of steps) {
    for (const next of mentionedBy.get(file) ?? []) if (!steps.has(next)) steps.set(next, step + 1);
  }
  return steps;
}

/** `test/agent/slot-power.test.ts` of `src/agent/slot/medium.ts`: of the same room, and the name begins with a part of the path. */
export function isNamesake(test: string, changed: readonly string[]): boolean {
  const [, room, name = ''] = test.split('/');
  const parts = changed.map((file) => file.replace(/\.[a-z]+$/, '').split('/'));
  return parts.some(([, theirRoom, ...rest]) => theirRoom === room && rest.includes(name.split(/[-.]/, 1)[0] ?? ''));
}

export interface TimedTest {
  readonly file: string;
  readonly steps: number;
  readonly isNamesake: boolean;
  readonly tookMs: number;
}

export interface Choice {
  readonly chosen: readonly string[];
  readonly left: readonly string[];
}

/** The nearest first, of those as near the namesakes and then the shortest; one that no longer fits makes room for those that do. */
export function nearestThatFit(tests: readonly TimedTest[], totalMs: number): Choice {
  const sorted = [...tests].sort(
    (a, b) => a.steps - b.steps || Number(b.isNamesake) - Number(a.isNamesake) || a.tookMs - b.tookMs,
  );
  const chosen: string[] = [];
  const left: string[] = [];
  let leftMs = totalMs;
  for (const { file, tookMs } of sorted) {
    const fits = tookMs <= leftMs;
    (fits ? chosen : left).push(file);
    if (fits) leftMs -= tookMs;
  }
  return { chosen, left };
}
