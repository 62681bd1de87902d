import { rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { asQxError, type Code } from '../../src/errors.ts';
import { archiveYard, good, type Yard, zst } from '../support/archive-yard.ts';
import { END, pax, tar } from '../support/tar-maker.ts';

let yard: Yard;
beforeEach(() => {
  yard = archiveYard();
});

describe('whatever the bytes', () => {
  const allowed = new Set<Code>(['ARCHIVE_UNSAFE', 'ARCHIVE_MALFORMED', 'ARCHIVE_TOO_LARGE']);

  async function expectHarmless(bytes: Buffer): Promise<void> {
    const startedMs = performance.now();
    const outcome = await yard.extract(bytes, { maxBytes: 1 << 16, maxEntries: 50 }).catch((error: unknown) => error);
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    if (outcome instanceof Error) expect(allowed).toContain(asQxError(outcome).code);
    await yard.expectUntouched(outcome instanceof Error ? [] : ['out']);
    rmSync(join(yard.root, 'data/out'), { recursive: true, force: true });
  }

  const original = tar(
    { name: 'd/', type: '5' },
    pax({ path: 'd/long', size: '5' }),
    { name: 'x', body: '12345' },
    { name: 'L', type: 'L', body: 'd/gnu\0' },
    good,
  );
  const edits = fc.array(fc.tuple(fc.nat(original.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
  const edited = (bytes: Buffer, changes: readonly (readonly [number, number])[]): Buffer => {
    const copy = Buffer.from(bytes);
    for (const [at, byte] of changes) copy[at % copy.length] = byte;
    return copy;
  };
  /** A changed header is only looked into when its checksum is right again. */
  const resummed = (bytes: Buffer): Buffer => {
    for (let at = 0; at + 512 <= bytes.length; at += 512) {
      if (bytes.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
      bytes.write('        ', at + 148);
      const sum = bytes.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
      bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
    }
    return bytes;
  };

  test('the original is fine', async () => {
    expect((await yard.extract(zst(original))).entries).toEqual(['d/', 'd/gnu', 'd/long']);
  });

  test('random bytes', async () => {
    const random = fc.uint8Array({ maxLength: 4096 }).map((a) => Buffer.from(a));
    await fc.assert(fc.asyncProperty(random, expectHarmless), { numRuns: 100 });
    await fc.assert(
      fc.asyncProperty(random, (bytes) => expectHarmless(zst(bytes))),
      { numRuns: 100 },
    );
  });

  test('a changed archive, its checksums made right again', async () => {
    const property = fc.asyncProperty(edits, (changes) => expectHarmless(zst(resummed(edited(original, changes)))));
    await fc.assert(property, { numRuns: 400 });
  });

  test('changed compressed bytes, and any cut of them', async () => {
    const bytes = zst(original);
    await fc.assert(
      fc.asyncProperty(edits, (changes) => expectHarmless(edited(bytes, changes))),
      { numRuns: 200 },
    );
    for (let length = 0; length < bytes.length; length += 7) await expectHarmless(bytes.subarray(0, length));
  });

  test('blocks of archives in any order', async () => {
    const blocks = Array.from({ length: original.length / 512 }, (_, i) => original.subarray(i * 512, (i + 1) * 512));
    const orders = fc.array(fc.nat(blocks.length - 1), { maxLength: 20 });
    const shuffled = orders.map((order) => zst(Buffer.concat([...order.map((i) => blocks[i] ?? END), END])));
    await fc.assert(fc.asyncProperty(shuffled, expectHarmless), { numRuns: 200 });
  });
});
