import { createHash } from 'node:crypto';

/** Fractions of a duration that look random, one in each of `count` equal parts of it, and follow from the seed. */
export const momentsOf = (seed: string, count: number): number[] =>
  Array.from({ length: count }, (_, i) => {
    const part = createHash('sha256').update(`${seed} ${i}`).digest().readUInt32BE() / 2 ** 32;
    return (i + part) / count;
  });
