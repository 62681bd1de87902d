import { assert, property, uint8Array } from 'fast-check';
import { expect, test } from 'vitest';
import { LAYOUT_BYTES, layoutOf, MAGIC_AT, readExt4 } from '../../src/format/slot-layout.ts';

const SQUASHFS =
  '68737173 00000000 00000000 00000200 00000000 0400 1100 0000 0000 0400 0000 0000000000000000 0000100000000000';
const TABLES = '0000000000000000 0000000000000000 40de0f0000000000 20ee0f0000000000 0000000000000000 0000000000000000';

function squashfs(): Uint8Array {
  const start = new Uint8Array(LAYOUT_BYTES);
  start.set(Buffer.from((SQUASHFS + TABLES).replaceAll(' ', ''), 'hex'));
  return start;
}

function ext4(blockLog = 2): Uint8Array {
  const start = new Uint8Array(LAYOUT_BYTES);
  start.set([0x53, 0xef], 1080);
  start.set([blockLog], 1024 + 24);
  return start;
}

test('the layout is told by the first bytes', () => {
  expect(layoutOf(squashfs())).toBe('raw');
  expect(layoutOf(ext4())).toBe('filesystem');
  expect(layoutOf(new Uint8Array(LAYOUT_BYTES))).toBeNull();
});

test('a bare image that has the other magic number by chance is still a bare image', () => {
  const both = squashfs();
  both.set([0x53, 0xef], 1080);
  expect(layoutOf(both)).toBe('raw');
});

test.each([
  ['raw', squashfs()],
  ['filesystem', ext4()],
] as const)('without its magic number there is no layout any more (%s)', (layout, start) => {
  const { at, lengthBytes } = MAGIC_AT[layout];
  for (let n = 0; n < lengthBytes; n++) {
    const torn = start.slice();
    torn.fill(0, at + n, at + lengthBytes);
    expect(layoutOf(torn)).toBeNull();
  }
});

test('block sizes of ext4', () => {
  expect(readExt4(ext4(0))).toEqual({ blockBytes: 1024 });
  expect(readExt4(ext4(2))).toEqual({ blockBytes: 4096 });
  expect(readExt4(ext4(6))).toEqual({ blockBytes: 65536 });
  expect(readExt4(ext4(7))).toBeNull();
  expect(readExt4(ext4().subarray(0, 1081))).toBeNull();
});

test('any bytes are judged without an exception', () => {
  assert(property(uint8Array({ maxLength: 1200 }), (noise) => void layoutOf(noise)));
});
