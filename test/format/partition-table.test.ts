import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readPartitionTable, TABLE_BYTES } from '../../src/format/partition-table.ts';
import { requires } from '../support/requires.ts';

/** What sfdisk writes for a script, and what it says of that itself. */
function made(script: string): { start: Uint8Array; said: { id: string; partitions: Entry[] } } {
  const folder = mkdtempSync(join(tmpdir(), 'quantix-table-'));
  try {
    const disk = join(folder, 'disk');
    writeFileSync(disk, '');
    truncateSync(disk, 64 << 20);
    execFileSync('sfdisk', ['--quiet', disk], { input: script });
    const said = JSON.parse(execFileSync('sfdisk', ['--json', disk], { encoding: 'utf8' })).partitiontable;
    return { start: readFileSync(disk).subarray(0, TABLE_BYTES), said };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Entry {
  readonly uuid: string;
  readonly name?: string;
}

requires({ commands: ['sfdisk'] })('a partition table as sfdisk makes it', () => {
  test('GPT: numbers, ids and labels, also with gaps between the numbers', () => {
    const { start, said } = made(
      'label: gpt\n1: size=4MiB, name=QUANTIX-BOOT\n4: size=4MiB, name="Größe 36 Zeichen, so lang wie erlaubt"\n5: size=1MiB\n',
    );
    const ids = said.partitions.map(({ uuid }) => uuid.toLowerCase());
    expect(readPartitionTable(start, 512)).toEqual([
      { number: 1, uuid: ids[0], label: 'QUANTIX-BOOT' },
      { number: 4, uuid: ids[1], label: said.partitions[1]?.name },
      { number: 5, uuid: ids[2], label: null },
    ]);
  });

  test('GPT on a disk whose sectors have 4096 bytes', () => {
    const { start } = made('label: gpt\nsize=4MiB, name=QUANTIX-A\n');
    // The same structures, one larger sector after the other.
    const large = new Uint8Array(TABLE_BYTES);
    large.set(start.subarray(0, 512));
    large.set(start.subarray(512, 1024), 4096);
    large.set(start.subarray(1024, 1024 + 128 * 128), 8192);
    expect(readPartitionTable(large, 4096)).toEqual(readPartitionTable(start, 512));
    // Read with the wrong size, the protective table of a PC is all that is there.
    expect(readPartitionTable(large, 512)).toEqual([]);
  });

  test('of a PC: ids by the signature of the disk', () => {
    const { start, said } = made('label: dos\n1: size=4MiB\n3: size=4MiB\n');
    const disk = said.id.slice(2);
    expect(readPartitionTable(start, 512)).toEqual([
      { number: 1, uuid: `${disk}-01`, label: null },
      { number: 3, uuid: `${disk}-03`, label: null },
    ]);
  });

  test('any bytes at all are read without a throw, and a GPT that was cut off as far as it goes', () => {
    const { start } = made('label: gpt\nsize=4MiB, name=QUANTIX-A\nsize=4MiB, name=QUANTIX-B\n');
    fc.assert(
      fc.property(fc.nat(2048), fc.uint8Array({ maxLength: 64 }), (at, bytes) => {
        const changed = Uint8Array.from(start);
        changed.set(bytes, at);
        for (const entry of readPartitionTable(changed, 512)) expect(entry.uuid).toMatch(/^[0-9a-f-]+$/);
      }),
    );
    expect(readPartitionTable(start.subarray(0, 1024 + 128), 512)).toHaveLength(1);
  });
});

describe('no table', () => {
  test.each([
    ['nothing', new Uint8Array()],
    ['zeros', new Uint8Array(TABLE_BYTES)],
  ])('%s', (_what, start) => expect(readPartitionTable(start, 512)).toEqual([]));
});
