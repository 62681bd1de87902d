import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkVersion, compareVersions, isNewer, isVersion } from '../../src/format/version.ts';
import { refusal } from '../support/documents.ts';

describe('T14, defect 17: version order', () => {
  test.each([
    ['2.10.0', '2.9.0'],
    ['2.4.1', '2.4.1-rc1'],
    ['2.4.1-rc.2', '2.4.1-rc.1'],
    ['2.4.1-rc.10', '2.4.1-rc.9'],
    ['2.4.1-rc.1', '2.4.1-beta.9'],
    ['2.4.1-alpha', '2.4.1-1'],
    ['2.4.1-a.b', '2.4.1-a'],
    ['1.0.0', '0.999999999.999999999'],
  ])('%s is newer than %s', (newer, older) => {
    expect(compareVersions(newer, older)).toBeGreaterThan(0);
    expect(compareVersions(older, newer)).toBeLessThan(0);
    expect(isNewer(newer, older)).toBe(true);
    expect(isNewer(older, newer)).toBe(false);
  });

  test('build metadata decides nothing', () => {
    expect(compareVersions('2.4.1+b', '2.4.1+a')).toBe(0);
    expect(isNewer('2.4.1+b', '2.4.1')).toBe(false);
  });

  test.each([
    '02.4.1',
    '2.4',
    '2',
    '2.4.1.0',
    '2.4.1\n',
    'v2.4.1',
    '=2.4.1',
    ' 2.4.1',
    '2.4.1 ',
    '2.04.1',
    '2.4.1-',
    '2.4.1-01',
    '2.4.1+',
    '2.4.1-a..b',
    '2.4.1-ä',
    '2.4.x',
    '*',
    '',
    '^2.4.1',
    '2.4.1-rc/1',
    '../2.4.1',
    '2.4.1\0',
    '２.4.1',
    '-1.0.0',
    '1e3.0.0',
    `2.4.1-${'a'.repeat(300)}`,
    '9999999999999999999.0.0',
    '1.0.0-99999999999999999999',
  ])('%j is refused', async (text) => {
    expect(isVersion(text)).toBe(false);
    expect(await refusal(() => checkVersion(text))).toBe('VERSION_INVALID');
    expect(await refusal(() => compareVersions('1.0.0', text))).toBe('VERSION_INVALID');
  });
});

const part = fc.nat(999_999_999);
const version = fc
  .tuple(
    part,
    part,
    part,
    fc.option(fc.stringMatching(/^[a-z0-9]{1,5}(\.[a-z][a-z0-9]{0,4}){0,2}$/), { nil: undefined }),
  )
  .map(([a, b, c, pre]) => `${a}.${b}.${c}${pre === undefined ? '' : `-${pre}`}`)
  .filter(isVersion);

test('the order is total', () => {
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      expect(Math.sign(compareVersions(a, b))).toBe(-Math.sign(compareVersions(b, a)) + 0);
      if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0)
        expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
    }),
  );
});

test('a version never leaves the folder that it names', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 70 }), (text) => {
      if (isVersion(text)) expect(text).toMatch(/^[0-9][0-9A-Za-z.+-]{0,63}$/);
    }),
  );
});
