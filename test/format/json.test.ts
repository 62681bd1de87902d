import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseStrict } from '../../src/format/json.ts';
import { cpuWatch } from '../support/cpu.ts';
import { bytesOf, textOf } from '../support/documents.ts';

const parse = (text: string) => parseStrict(bytesOf(text)).value;

describe('T08 what two readers could read in two ways is refused', () => {
  test.each([
    ['a key twice at the top', '{"a":1,"a":1}', /"a" appears twice/],
    ['a key twice further down', '{"a":{"version":"1","version":"2"}}', /"version" appears twice/],
    ['a key twice, once escaped', '{"a":1,"\\u0061":2}', /appears twice/],
    ['a key __proto__', '{"__proto__":{"polluted":true}}', /__proto__/],
    ['a key __proto__, escaped', '{"\\u005f_proto__":{"polluted":true}}', /__proto__/],
    ['a fraction', '{"a":1.0}', /plain integers/],
    ['an exponent', '{"a":1e0}', /plain integers/],
    ['minus zero', '{"a":-0}', /expected a value/],
    ['a leading zero', '{"a":01}', /plain integers/],
    ['a plus sign', '{"a":+1}', /expected a value/],
    ['2^53', '{"a":9007199254740992}', /safe integer/],
    ['2^53 + 1', '{"a":9007199254740993}', /safe integer/],
    ['-2^53', '{"a":-9007199254740992}', /safe integer/],
    ['a number of a thousand digits', `{"a":1${'0'.repeat(1000)}}`, /safe integer/],
    ['NaN', '{"a":NaN}', /expected a value/],
    ['a lone surrogate', '{"a":"\\ud800"}', /lone surrogate/],
    ['surrogates in the wrong order', '{"a":"\\udc00\\ud800"}', /lone surrogate/],
    ['a string that is not NFC', '{"a":"e\u0301"}', /normal form C/],
    ['a key that is not NFC', '{"e\u0301":1}', /normal form C/],
    ['31 combining marks on one letter', `{"a":"x${'\u0301'.repeat(31)}"}`, /combining marks/],
    ['a byte order mark', '\ufeff{}', /expected a value/],
    ['bytes after the document', '{} {}', /after the document/],
    ['a NUL after the document', '{}\0', /after the document/],
    ['a comment', '{/* */}', /expected a string/],
    ['a comma at the end of an object', '{"a":1,}', /expected a string/],
    ['a comma at the end of an array', '[1,]', /expected a value/],
    ['a comma at the start', '{,"a":1}', /expected a string/],
    ['single quotes', "{'a':1}", /expected a string/],
    ['a bare key', '{a:1}', /expected a string/],
    ['a line break in a string', '{"a":"\n"}', /control character/],
    ['an escape that JSON has not', '{"a":"\\x41"}', /unknown escape/],
    ['an escape named like a method', '{"a":"\\constructor"}', /four hex|unknown escape/],
    ['three hex digits', '{"a":"\\u041"}', /four hex digits/],
    ['a word in capitals', '{"a":TRUE}', /expected a value/],
    ['nothing', '', /expected a value/],
    ['half a document', '{"a":"b', /string does not end/],
    ['half an escape', '{"a":"\\', /unknown escape/],
    ['a form feed between values', '{\f}', /expected a string/],
  ])('%s', (_title, text, complaint) => {
    expect(() => parse(text)).toThrow(SyntaxError);
    expect(() => parse(text)).toThrow(complaint);
  });

  test.each([
    ['a stray continuation byte', [0x22, 0x80, 0x22]],
    ['an overlong slash', [0x22, 0xc0, 0xaf, 0x22]],
    ['a surrogate written in UTF-8', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['half a character', [0x22, 0xe2, 0x82, 0x22]],
  ])('bytes that are no UTF-8: %s', (_title, bytes) => {
    expect(() => parseStrict(Uint8Array.from(bytes))).toThrow(/not UTF-8/);
  });

  test('and Object.prototype stays as it was', () => {
    expect(() => parse('{"__proto__":{"polluted":true}}')).toThrow(SyntaxError);
    const harmless = parse('{"constructor":{"prototype":{"polluted":true}}}') as object;
    expect(Object.hasOwn(harmless, 'constructor')).toBe(true);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    expect(Object.getPrototypeOf(harmless)).toBe(Object.prototype);
  });
});

describe('T08 what could exhaust the reader is refused', () => {
  test('200 levels', () => {
    expect(() => parse('['.repeat(200))).toThrow(/16 levels/);
    expect(() => parse('{"a":'.repeat(200))).toThrow(/16 levels/);
  });

  test('16 levels are read, 17 are not', () => {
    const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);
    expect(parse(nested(16))).toBeDefined();
    expect(() => parse(nested(17))).toThrow(/16 levels/);
  });

  test('levels are counted along one path, not over the document', () => {
    expect(parse(`[${'[],'.repeat(99)}[]]`)).toHaveLength(100);
  });

  test('more than 1 MiB, before a byte of it is read', () => {
    const tooLarge = new Uint8Array((1 << 20) + 1).fill(0x20);
    expect(() => parseStrict(tooLarge)).toThrow(/larger than 1048576/);
  });

  test.each([
    ['escapes', `"${'\\u0041'.repeat(170_000)}"`],
    ['escaped quotes', `"${'\\"'.repeat(500_000)}"`],
    ['empty arrays', `[${'[],'.repeat(340_000)}[]]`],
    ['small numbers', `[${'1,'.repeat(500_000)}1]`],
    ['keys', `{${Array.from({ length: 90_000 }, (_, i) => `"${i}":0`).join(',')}}`],
    ['spaces', `${' '.repeat(1_000_000)}1`],
    ['combining marks', `"${'\u0316\u0301'.repeat(200_000)}"`],
  ])('1 MiB of %s is dealt with in bounded time', (_title, text) => {
    const tookMs = cpuWatch();
    try {
      parse(text);
    } catch (error) {
      expect(error).toBeInstanceOf(SyntaxError);
    }
    expect(tookMs()).toBeLessThan(10_000);
  });
});

test.each([
  ['{"a":[1,-2,0,true,false,null,"x"],"b":{"c":"d"}}'],
  [' \t\r\n{ "a" : [ ] , "b" : { } }\n'],
  ['"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"'],
  ['{"é":"😀"}'],
  ['9007199254740991'],
])('reads what JSON.parse reads: %s', (text) => {
  expect(parse(text)).toEqual(JSON.parse(text));
});

const strictValue = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger().map((n) => (Object.is(n, -0) ? 0 : n)),
    tie('text'),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(
      fc.string({ unit: 'grapheme' }).map((s) => s.normalize('NFC')),
      tie('value'),
      { maxKeys: 5 },
    ),
  ),
  text: fc.string({ unit: 'grapheme' }).map((s) => s.normalize('NFC')),
})).value;

test('whatever it accepts, JSON.parse reads the same, and writing it again changes nothing', () => {
  fc.assert(
    fc.property(strictValue, fc.nat(3), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      fc.pre(!text.includes('"__proto__"'));
      expect(parse(text)).toEqual(JSON.parse(text));
      expect(parse(canonicalize(value) as string)).toEqual(JSON.parse(text));
    }),
  );
});

test('says where each top-level member stands, as it was sent', () => {
  const text = '{ "manifest" : { "b":1,  "a":[ ] } ,"key_id":"x"}';
  const { members } = parseStrict(bytesOf(text));
  const member = (name: string) => text.slice(...(members.get(name) ?? [0, 0]));
  expect(member('manifest')).toBe('{ "b":1,  "a":[ ] }');
  expect(member('key_id')).toBe('"x"');
  expect([...members.keys()]).toEqual(['manifest', 'key_id']);
});

describe('RFC 8785 golden bytes', () => {
  test.each([
    // Keys by UTF-16 code units: the surrogate pair of U+1F600 sorts before U+FB13.
    [
      '{"\ufb13":1,"\ud83d\ude00":2,"\u20ac":3,"\u00f6":4,"\\r":5,"1":6}',
      '{"\\r":5,"1":6,"ö":4,"€":3,"😀":2,"\ufb13":1}',
    ],
    ['{"b":[1,{"z":null,"y":true}],"a":""}', '{"a":"","b":[1,{"y":true,"z":null}]}'],
    ['"\\u000f\\n\\/\\u2028\\u007f\\""', '"\\u000f\\n/\u2028\u007f\\""'],
    ['[ 9007199254740991 , -1 ]', '[9007199254740991,-1]'],
  ])('%s', (text, canonical) => {
    expect(canonicalize(parse(text))).toBe(canonical);
    expect(textOf(bytesOf(canonical))).toBe(canonical);
  });
});
