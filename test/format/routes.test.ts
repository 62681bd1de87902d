import { describe, expect, test } from 'vitest';
import { AGENT_ROUTES } from '../../src/format/agent-routes.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { pathOf, type Route } from '../../src/format/route.ts';
import { SERVER_ROUTES } from '../../src/format/routes.ts';

const tables: readonly (readonly [string, Readonly<Record<string, Route>>])[] = [
  ['the server', { ...SERVER_ROUTES, ...NODE_ROUTES }],
  ['the agent', AGENT_ROUTES],
];

describe.each(tables)('the routes of %s', (_name, table) => {
  test('are distinct, and describe exactly the parameters in their paths', () => {
    const routes = Object.values(table);
    expect(new Set(routes.map(({ method, path }) => `${method} ${path}`)).size).toBe(routes.length);
    for (const { path, params } of routes) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      expect(Object.keys(params?.properties ?? {})).toEqual(inPath);
    }
  });

  test('let nobody change anything without saying who he is', () => {
    const changing = Object.values(table).filter(({ method }) => method !== 'GET');
    expect(changing.map(({ who }) => who)).not.toContain('open');
  });
});

test("the agent has the paths of the user's documents", () => {
  const paths = Object.values(AGENT_ROUTES).map(({ method, path }) => `${method} ${path}`);
  for (const path of ['GET check', 'GET current', 'GET status', 'POST apply', 'GET config', 'GET version']) {
    expect(paths).toContain(path.replace(' ', ' /api/v1/updates/'));
  }
});

test('a path is filled in and escaped', () => {
  const params = { product: 'quantix-os', version: '1.0.0+b/1', artifact: 'a b' } as const;
  expect(pathOf(SERVER_ROUTES.artifact, params, { channel: 'beta' })).toBe(
    '/api/v1/quantix-os/releases/1.0.0%2Bb%2F1/a%20b?channel=beta',
  );
  expect(pathOf(SERVER_ROUTES.health, {}, {})).toBe('/health');
});
