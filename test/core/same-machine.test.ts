import { describe, expect, test } from 'vitest';
import { isSameMachine, refreshed, usableMark } from '../../src/core/same-machine.ts';
import type { Hardware } from '../../src/format/host-identity.ts';

const MADE: Hardware = { uuid: 'u1', board: 'b1', cards: ['c1', 'c2'], disks: ['d1', 'd2'] };
const NOTHING: Hardware = { uuid: null, board: null, cards: [], disks: [] };
const THIN: Hardware = { ...NOTHING, uuid: 'u1', cards: ['c1'] };

describe('the machine', () => {
  test.each<[string, Hardware, Partial<Hardware>, boolean]>([
    ['nothing was exchanged', MADE, {}, true],
    ['one of two network cards was replaced', MADE, { cards: ['c2', 'c9'] }, true],
    ['all network cards were replaced', MADE, { cards: ['c9'] }, true],
    ['one of two disks was replaced', MADE, { disks: ['d9', 'd2'] }, true],
    ['the disks were replaced, and written from a backup', MADE, { disks: ['d9'] }, true],
    ['the board was replaced, with its UUID', MADE, { board: 'b9', uuid: 'u9' }, true],
    ['its firmware has a new UUID', MADE, { uuid: 'u9' }, true],
    ['the cards are not found yet', MADE, { cards: [] }, true],
    ['nothing can be read', MADE, NOTHING, true],
    ['nothing could be read when it was made', NOTHING, MADE, true],
    ['a copy in another machine', MADE, { uuid: 'u9', board: 'b9', cards: ['c9'], disks: ['d9'] }, false],
    ['a copy in a machine from a template with one UUID', MADE, { board: 'b9', cards: ['c9'], disks: ['d9'] }, false],
    ['a copy in a machine from a template with one board', MADE, { cards: ['c9'], disks: ['d9'] }, false],
    ['its own disk in another machine', MADE, { uuid: 'u9', board: 'b9', cards: ['c9'] }, false],
    ['a copy of a virtual machine with its UUID', THIN, { cards: ['c9'] }, false],
    ['a copy of a virtual machine with nothing but a UUID', { ...NOTHING, uuid: 'u1' }, { uuid: 'u9' }, false],
    ['a virtual machine with nothing but a UUID', { ...NOTHING, uuid: 'u1' }, {}, true],
    ['equal votes, and another UUID', MADE, { uuid: 'u9', board: null, cards: ['c9'] }, false],
    ['equal votes, and the same UUID', MADE, { board: null, cards: ['c9'] }, true],
  ])('%s', (_what, made, change, isSame) => {
    expect(isSameMachine(made, { ...made, ...change })).toBe(isSame);
  });

  test('that has parts replaced one after the other stays the same, and what cannot be read is not forgotten', () => {
    const first = refreshed(MADE, { ...MADE, cards: ['c9'], disks: [] });
    expect(first).toEqual({ ...MADE, cards: ['c9'] });
    const second = refreshed(first, { ...first, disks: ['d9'] });
    expect(isSameMachine(second, { ...second, board: 'b9' })).toBe(true);
  });
});

test.each([
  '',
  'None',
  'To be filled by O.E.M.',
  'Default string',
  'Not Specified',
  '0123456789',
  '00000000-0000-0000-0000-000000000000',
  'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF',
  '03000200-0400-0500-0006-000700080009',
  '00:00:00:00:00:00',
  '52:54:00:12:34:56',
  't10.ATA     QEMU HARDDISK                           QM00001   ',
  '0QEMU    QEMU HARDDISK   drive-scsi0',
  'QM00003',
])('%j tells no machine from another', (text) => expect(usableMark(text)).toBeNull());

test.each([
  ['  CN7475171K0123 \n', 'CN7475171K0123'],
  ['4c4c4544-0043-3510-8051-b4c04f4a4e32', '4c4c4544-0043-3510-8051-b4c04f4a4e32'],
  ['t10.ATA     Samsung SSD 870   S6PUNX0T', 't10.ATA Samsung SSD 870 S6PUNX0T'],
  ['3c:ec:ef:00:00:00', '3c:ec:ef:00:00:00'],
])('%j does', (text, mark) => expect(usableMark(text)).toBe(mark));
