import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BootState } from '../../src/format/grubenv.ts';
import { decodeBlock, decodeBoot, encodeBlock, encodeBoot, sealOf } from '../../src/format/grubenv.ts';
import { allBootStates, TRIAL } from '../support/boot-states.ts';
import { block, goodA, trialB } from '../support/grub-block.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (block: Uint8Array) => new TextDecoder('latin1').decode(block);

const armed: BootState = {
  order: ['B', 'A'],
  A: { ok: true, tries: 0 },
  B: { ok: false, tries: 3 },
  trial: TRIAL,
  failed: '',
};

// Without `=`, `#` in front, control characters: what grub-editenv and people choose.
const name = fc.stringMatching(/^[a-z_][a-z0-9_.-]{0,20}$/).filter((n) => !n.startsWith('quantix_'));
const value = fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((c) => String.fromCharCode(c)), maxLength: 40 });
const variables = fc.dictionary(name, value, { maxKeys: 8, noNullPrototype: true });

describe('the GRUB environment block', () => {
  test('an armed trial has exactly these bytes', () => {
    const expected =
      '# GRUB Environment Block\nquantix_order=B A\nquantix_a_ok=1\nquantix_b_ok=0\nquantix_a_tries=0\nquantix_b_tries=3\n' +
      'quantix_trial=trial0001\nquantix_failed=\nquantix_seal=B A|1|0|0|3|trial0001|\n';
    expect(text(encodeBoot(armed))).toBe(expected.padEnd(4096, '#'));
  });

  test('every valid state comes back from its bytes', () => {
    for (const state of allBootStates()) expect(decodeBoot(encodeBoot(state))).toEqual(state);
  });

  test('our variables, at their longest, lie within the first 512-byte sector', () => {
    const longest = encodeBoot({ ...armed, trial: 'a'.repeat(32), failed: 'b'.repeat(32) });
    expect(text(longest).lastIndexOf('\n')).toBeLessThan(512);
  });

  test('blocks written by other hands are read alike', () => {
    expect(decodeBoot(bytes(block(goodA)))).toMatchObject({ order: ['A', 'B'], A: { ok: true }, trial: '' });
    expect(decodeBoot(bytes(block(trialB)))).toMatchObject({ order: ['B', 'A'], B: { tries: 2 }, trial: TRIAL });
    expect(decodeBoot(bytes(block(goodA, 'A B|1|1|0|0||')))).toBeNull();
  });

  test.each([
    ['order', { ...trialB, order: 'A A' }],
    ['order of one', { ...trialB, order: 'B' }],
    ['ok', { ...trialB, a_ok: 'yes' }],
    ['tries=9', { ...trialB, b_tries: '9' }],
    ['negative tries', { ...trialB, b_tries: '-1' }],
    ['a slot letter as trial', { ...trialB, trial: 'X' }],
    ['a kernel option as trial', { ...trialB, trial: 'trial0001 init=/bin/sh' }],
    ['a bar in a field', { ...trialB, order: 'B A|1', a_ok: '' }],
    ['failed', { ...trialB, failed: 'B' }],
  ])('a value that is not allowed makes the copy invalid although its seal agrees: %s', (_, values) => {
    expect(decodeBoot(bytes(block(values)))).toBeNull();
  });

  test.each([
    ['nothing', new Uint8Array()],
    ['zeros', new Uint8Array(4096)],
    ['a header alone', bytes('# GRUB Environment Block\n')],
    ['a header and zeros', bytes('# GRUB Environment Block\n'.padEnd(4096, '\0'))],
    ['too many bytes', new Uint8Array(70_000).fill(35)],
  ])('no state is read from %s', (_, damaged) => expect(decodeBoot(damaged)).toBeNull());

  test('every single flipped bit in our variables makes the copy invalid, or changes nothing', () => {
    const whole = encodeBoot(armed);
    const end = text(whole).lastIndexOf('\n');
    for (let bit = 0; bit < (end + 1) * 8; bit++) {
      const flipped = Uint8Array.from(whole);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect([null, sealOf(armed)], `bit ${bit}`).toContain(sealOrNull(decodeBoot(flipped)));
    }
  });

  test('arbitrary bytes are read or refused with BOOT_ENV_INVALID, never anything else', () => {
    const junk = fc.uint8Array({ maxLength: 600 });
    fc.assert(
      fc.property(junk, fc.boolean(), (body, hasHeader) => {
        const damaged = hasHeader ? Uint8Array.from([...bytes('# GRUB Environment Block\n'), ...body]) : body;
        try {
          expect(decodeBlock(damaged)).toBeInstanceOf(Map);
        } catch (error) {
          expect(error).toMatchObject({ code: 'BOOT_ENV_INVALID' });
        }
      }),
    );
  });

  test('variables survive encoding and decoding, backslashes and newlines included', () => {
    fc.assert(
      fc.property(variables, (values) => {
        const map = new Map(Object.entries(values));
        expect(decodeBlock(encodeBlock(map))).toEqual(map);
      }),
    );
  });

  test('variables of others are kept when a state is written', () => {
    fc.assert(
      fc.property(variables, (values) => {
        const before = encodeBlock(
          new Map([...Object.entries(values), ['quantix_later', 'x'], ['quantix_order', 'B A']]),
        );
        const after = encodeBoot(armed, before);
        expect(decodeBoot(after)).toEqual(armed);
        expect(decodeBlock(after)).toEqual(
          new Map([...decodeBlock(encodeBoot(armed)), ...Object.entries(values), ['quantix_later', 'x']]),
        );
      }),
    );
  });

  test('a block never shrinks, and a short one grows to its 4 KiB', () => {
    expect(encodeBoot(armed, new Uint8Array(8192))).toHaveLength(8192);
    expect(encodeBoot(armed, encodeBlock(new Map([['a', 'b']]), 1024))).toHaveLength(4096);
  });

  test('what does not fit, or cannot be named, is refused', () => {
    const refused = expect.objectContaining({ code: 'BOOT_ENV_INVALID' });
    expect(() => encodeBlock(new Map([['a', 'x'.repeat(4096)]]))).toThrow(refused);
    expect(() => encodeBlock(new Map([['#a', 'x']]))).toThrow(refused);
    expect(() => encodeBoot({ ...armed, B: { ok: false, tries: 4 } })).toThrow(refused);
    expect(() => encodeBoot({ ...armed, trial: 'short' })).toThrow(refused);
  });
});

requires({ commands: ['grub-editenv'] })('the real grub-editenv', () => {
  test('lists, changes and removes variables in our 4 KiB block, and we read what it wrote', async () => {
    const path = join(await temporaryFolder(), 'grubenv');
    await writeFile(path, encodeBoot(armed, encodeBlock(new Map([['menu', 'a\\b c']]))));
    const listed = (await execa('grub-editenv', [path, 'list'])).stdout.split('\n');
    expect(listed).toEqual(expect.arrayContaining(['quantix_order=B A', 'quantix_b_tries=3', 'quantix_failed=']));
    expect(listed).toContain(`quantix_seal=${sealOf(armed)}`);
    const counted = { ...armed, B: { ok: false, tries: 2 } };
    await execa('grub-editenv', [path, 'set', 'quantix_b_tries=2', `quantix_seal=${sealOf(counted)}`, 'extra=q\\w=e']);
    await execa('grub-editenv', [path, 'unset', 'menu']);
    const after = new Uint8Array(await readFile(path));
    expect(after).toHaveLength(4096);
    expect(decodeBoot(after)).toEqual(counted);
    expect(decodeBlock(after).get('extra')).toBe('q\\w=e');
    expect(decodeBlock(after).has('menu')).toBe(false);
  });

  test('a change without a new seal makes the copy invalid', async () => {
    const path = join(await temporaryFolder(), 'grubenv');
    await writeFile(path, encodeBoot(armed));
    await execa('grub-editenv', [path, 'set', 'quantix_b_ok=1']);
    expect(decodeBoot(new Uint8Array(await readFile(path)))).toBeNull();
  });

  test('writes the same bytes as we do', async () => {
    const path = join(await temporaryFolder(), 'grubenv');
    await writeFile(path, encodeBlock(new Map()));
    const values = [...decodeBlock(encodeBoot(armed))].map(([key, held]) => `${key}=${held}`);
    await execa('grub-editenv', [path, 'set', ...values]);
    expect(new Uint8Array(await readFile(path))).toEqual(encodeBoot(armed));
  });
});

const sealOrNull = (state: BootState | null) => (state === null ? null : sealOf(state));
