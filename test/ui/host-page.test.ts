import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { AGENT_ROUTES } from '../../src/format/agent-routes.ts';
import { PAGE_ROUTES } from '../../src/format/page-routes.ts';

const folder = join(import.meta.dirname, '../../src/ui/host');
const read = (name: string) => readFile(join(folder, name), 'utf8');

test('the page loads its own files and nothing else, all under names that the agent serves', async () => {
  const html = await read('index.html');
  const loaded = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, url]) => url);
  expect(loaded.sort()).toEqual((await readdir(folder)).filter((name) => name !== 'index.html').sort());
  for (const file of loaded) expect(Value.Check(PAGE_ROUTES.pageFile.params, { file })).toBe(true);
  const all = html + (await read('page.css')) + (await read('page.js'));
  expect(all).not.toMatch(/https?:|\/\/[a-z]|@import|url\(/i);
});

test('nothing runs that the agent’s Content-Security-Policy forbids, and nothing becomes markup', async () => {
  const html = await read('index.html');
  expect(html).not.toMatch(/<style|style=|<script>| on[a-z]+=/i);
  expect(await read('page.js')).not.toMatch(/innerHTML|outerHTML|insertAdjacent|document\.write|eval|\.style\b/);
});

test('every element that the script looks for is there', async () => {
  const html = await read('index.html');
  const wanted = [...(await read('page.js')).matchAll(/byId\('([^']*)'\)/g)].map(([, id]) => id);
  expect(wanted.length).toBeGreaterThan(5);
  for (const id of wanted) expect(html).toContain(`id="${id}"`);
});

test('it asks for what is there, and shows the token to its own host only', async () => {
  const script = await read('page.js');
  const asked = [...script.matchAll(/get\('([a-z]+)'\)/g)].map(([, name]) => `/api/v1/updates/${name}`);
  expect(new Set(asked).size).toBe(4);
  const known = Object.values(AGENT_ROUTES).filter((route) => route.method === 'GET');
  expect(known.map((route) => route.path)).toEqual(expect.arrayContaining([...new Set(asked)]));
  expect([...script.matchAll(/fetch\(`([^$]*)/g)].map(([, url]) => url)).toEqual(['/api/v1/updates/']);
  expect(script.match(/fetch\(/g)).toHaveLength(1);
  expect(script).not.toMatch(/localStorage|cookie|location/);
});
