import { readFile, stat } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { withGeneratedParts } from '../../scripts/generate/readme.ts';

const readme = await readFile('README.md', 'utf8');

describe('README.md', () => {
  test('its generated parts are those of the code (npm run generate)', () => {
    expect(readme).toBe(withGeneratedParts(readme));
    for (const part of ['update', 'slot', 'verdicts', 'verbs', 'exits'])
      expect(readme).toContain(`<!-- generated: ${part} -->`);
  });

  test('a part that nobody makes is noticed', () => {
    expect(() => withGeneratedParts('<!-- generated: weather -->\n<!-- end -->')).toThrow('weather');
  });

  test('every file that it points to is there', async () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, path]) => path as string);
    expect(links.length).toBeGreaterThan(5);
    for (const path of links) expect((await stat(path)).isFile(), path).toBe(true);
  });

  test('its two commands come first and are executable', async () => {
    const commands = [...readme.matchAll(/^(\.\/scripts\/\w+\.sh)/gm)].map(([, path]) => path as string);
    expect(commands.slice(0, 2)).toEqual(['./scripts/demo.sh', './scripts/test.sh']);
    for (const path of commands) expect((await stat(path)).mode & 0o111, path).not.toBe(0);
  });
});
