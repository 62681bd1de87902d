import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Files } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { temporaryFolder } from '../support/temp.ts';

let root: string;
let files: Files;
const at = (path: string): string => join(root, path);
const text = (path: string): string => readFileSync(at(path), 'utf8');

beforeEach(async () => {
  root = await temporaryFolder();
  files = hostFiles(root);
  mkdirSync(at('data'));
});

describe('the lock', () => {
  const path = '/run/quantix/update.lock';

  test('is held once, names its holder, and is free after release, also when released twice', async () => {
    const release = await files.lock(path);
    expect(JSON.parse(text(path))).toMatchObject({ pid: process.pid });
    expect(await files.lock(path)).toBeNull();
    await release?.();
    const again = await files.lock(path);
    await release?.();
    expect(await files.lock(path)).toBeNull();
    await again?.();
    expect(readdirSync(at('run/quantix'))).toEqual([]);
  });

  test('of a killed process is taken over', async () => {
    const source = `import { hostFiles } from ${JSON.stringify(join(import.meta.dirname, '../../src/system/files.ts'))};
      await hostFiles(${JSON.stringify(root)}).lock(${JSON.stringify(path)});
      console.log('locked');
      setInterval(() => {}, 1000);`;
    const holder = execa(process.execPath, ['--input-type=module', '-e', source], { reject: false });
    await once(holder.stdout, 'data');
    expect(await files.lock(path)).toBeNull();
    holder.kill('SIGKILL');
    await holder;
    expect(await files.lock(path)).not.toBeNull();
  });

  test.each([
    ['a reused pid', (held: string) => ({ ...JSON.parse(held), start: '1' })],
    ['an earlier boot', (held: string) => ({ ...JSON.parse(held), boot: 'another' })],
    ['nobody at all', () => 'rubbish'],
  ])('of %s is taken over, by exactly one of many', async (_who, stale) => {
    const release = await files.lock(path);
    const held = text(path);
    await release?.();
    writeFileSync(at(path), JSON.stringify(stale(held)));
    const results = await Promise.all(Array.from({ length: 16 }, () => files.lock(path)));
    expect(results.filter((r) => r !== null)).toHaveLength(1);
    expect(readdirSync(at('run/quantix'))).toEqual(['update.lock']);
  });

  test('whose taker died while taking over can still be taken over', async () => {
    mkdirSync(at('run/quantix'), { recursive: true });
    writeFileSync(at(path), 'dead');
    const generation = createHash('sha256').update('dead').digest('hex').slice(0, 16);
    writeFileSync(at(`${path}.${generation}`), 'dead too');
    expect(await files.lock(path)).not.toBeNull();
  });

  test('T32 a planted symlink is refused', async () => {
    mkdirSync(at('run/quantix'), { recursive: true });
    symlinkSync(at('secret'), at(path));
    await expect(files.lock(path)).rejects.toMatchObject({ code: 'ELOOP' });
    expect(existsSync(at('secret'))).toBe(false);
  });
});
