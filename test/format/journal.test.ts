import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeDocument } from '../../src/format/document.ts';
import { EMPTY_MEMORY, type Memory, readJournal, readMemory } from '../../src/format/journal.ts';
import { bytesOf, edited, refusal, textOf } from '../support/documents.ts';
import { sampleJournal as journal } from '../support/journal.ts';

const memory: Memory = { ...EMPTY_MEMORY, high_water: { 'quantix-os/dev/1': 7 }, floor: '1.0.0' };
const bytes = writeDocument(journal);

test('what is written is read again', () => {
  expect(readJournal(bytes)).toEqual(journal);
  expect(readMemory(writeDocument(memory))).toEqual(memory);
  expect(readMemory(writeDocument(EMPTY_MEMORY))).toEqual(EMPTY_MEMORY);
});

test('the first six fields stand where the troubleshooting guides look for them', () => {
  expect(Object.keys(JSON.parse(textOf(bytes)) as object).slice(0, 6)).toEqual([
    'previous_slot',
    'target_slot',
    'target_version',
    'boot_attempts',
    'max_attempts',
    'pending',
  ]);
});

test('fields that a newer agent wrote are kept', () => {
  const newer = edited(bytes, (document) => void Object.assign(document, { added_later: { deep: [1] } }));
  expect(textOf(writeDocument(readJournal(newer)))).toContain('"added_later"');
});

test('whatever stands in an error message, the journal can be read again', () => {
  const text = fc.string({ unit: 'binary', maxLength: 60 });
  const awkward = fc.oneof(
    text,
    fc.constantFrom('\ud800', 'e\u0301', '\0\u001b[2J', `x${'\u0301'.repeat(500)}`, '__proto__'),
  );
  fc.assert(
    fc.property(awkward, awkward, (code, detail) => {
      expect(readJournal(writeDocument({ ...journal, error: { code, detail } })).error).not.toBeNull();
      const bad = [{ version: '1', release_digest: 'x', at: '', reason: detail }];
      expect(readMemory(writeDocument({ ...memory, bad })).bad).toHaveLength(1);
    }),
  );
});

describe('what is not a journal is refused', () => {
  const without = (field: string) => edited(bytes, (document) => delete document[field]);
  const withField = (field: string, value: unknown) =>
    edited(bytes, (document) => void Object.assign(document, { [field]: value }));

  test.each<[string, Uint8Array, string]>([
    ['nothing', bytesOf(''), 'STATE_INVALID'],
    ['half of it', bytes.subarray(0, 300), 'STATE_INVALID'],
    ['zeros, as after a power cut', new Uint8Array(512), 'STATE_INVALID'],
    ['null', bytesOf('null'), 'STATE_INVALID'],
    ['a list', bytesOf('[]'), 'STATE_INVALID'],
    ['the same field twice', bytesOf(textOf(bytes).replace('{', '{"phase":"idle",')), 'STATE_INVALID'],
    ['no format', without('format'), 'STATE_INVALID'],
    ['format 0', withField('format', 0), 'STATE_INVALID'],
    ['format 2', withField('format', 2), 'STATE_TOO_NEW'],
    ['an unknown phase', withField('phase', 'thinking'), 'STATE_INVALID'],
    ['a phase that every object has', withField('phase', 'constructor'), 'STATE_INVALID'],
    ['slot C', withField('target_slot', 'C'), 'STATE_INVALID'],
    ['an id that is a path', withField('id', '../../etc/x'), 'STATE_INVALID'],
    ['no attempts left over', withField('boot_attempts', -1), 'STATE_INVALID'],
  ])('%s', async (_title, document, code) => {
    expect(await refusal(() => readJournal(document))).toBe(code);
  });

  test.each([
    ['a negative sequence', { high_water: { 'quantix-os/dev/1': -1 } }, 'STATE_INVALID'],
    ['format 9', { format: 9 }, 'STATE_TOO_NEW'],
    ['no slots', { slots: null }, 'STATE_INVALID'],
  ])('a memory with %s', async (_title, fields, code) => {
    const spoiled = edited(writeDocument(memory), (document) => void Object.assign(document, fields));
    expect(await refusal(() => readMemory(spoiled))).toBe(code);
  });

  test('and the refusal says which file it is, and how to go on without it', () => {
    const next = (path: string) => expect.objectContaining({ next: expect.stringContaining(`mv ${path} ${path}.bad`) });
    expect(() => readJournal(bytesOf('{'))).toThrow(next('/quantix/ab-update-state.json'));
    expect(() => readMemory(bytesOf('{}'))).toThrow(
      expect.objectContaining({ next: expect.stringContaining('qx-update reset --remembered --reason TEXT') }),
    );
  });
});
