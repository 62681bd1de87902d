import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../support/temp.ts';
import { openBlockLog, SECTOR_BYTES } from './block-log.ts';

const FLAG = { none: 0, flush: 1, fua: 2, discard: 4 } as const;

function head(...fields: readonly number[]): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  for (const [i, field] of fields.entries()) sector.writeBigUInt64LE(BigInt(field), 8 * i);
  return sector;
}

async function logOf(entries: readonly Buffer[], count = entries.length): Promise<string> {
  const path = join(await temporaryFolder(), 'writes');
  const first = head(0, 1, count);
  first.writeBigUInt64LE(0x6a736677736872n, 0);
  first.writeUInt32LE(SECTOR_BYTES, 24);
  await writeFile(path, Buffer.concat([first, ...entries]));
  return path;
}

const write = (sector: number, fill: number, flags: number = FLAG.none): Buffer =>
  Buffer.concat([head(sector, 2, flags), Buffer.alloc(2 * SECTOR_BYTES, fill)]);

test('writes in their order, with their bytes; flushes where they were', async () => {
  await using log = await openBlockLog(
    await logOf([
      write(10, 1),
      head(0, 0, FLAG.flush),
      write(20, 2, FLAG.fua),
      head(30, 2, FLAG.discard),
      write(40, 3),
    ]),
  );
  expect(log.entries).toMatchObject([
    { kind: 'write', sector: 10, sectors: 2 },
    { kind: 'flush' },
    { kind: 'write', sector: 20 },
    { kind: 'write', sector: 40 },
  ]);
  const last = log.entries.at(-1);
  if (last?.kind !== 'write') throw new Error('the last one is a write');
  expect(await log.read(last, 1, 2)).toEqual(Buffer.alloc(SECTOR_BYTES, 3));
});

test('a write that flushes first is a flush and then a write', async () => {
  await using log = await openBlockLog(await logOf([write(10, 1), write(20, 2, FLAG.flush)]));
  expect(log.entries.map(({ kind }) => kind)).toEqual(['write', 'flush', 'write']);
});

test('what is no log, and one that ends in the middle, is refused', async () => {
  const path = join(await temporaryFolder(), 'noise');
  await writeFile(path, Buffer.alloc(SECTOR_BYTES, 7));
  await expect(openBlockLog(path)).rejects.toThrow('is no log');
  await expect(openBlockLog(await logOf([write(10, 1)], 2))).rejects.toThrow('ends after 1 of 2 entries');
});
