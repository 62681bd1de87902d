import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ComponentRules, inUse, orderComponents } from '../../src/core/components.ts';
import type { Component } from '../../src/format/manifest.ts';

const component = (name: string, fields: Partial<Component> = {}): Component => ({
  name,
  version: '2.0.0',
  artifact: `${name}.tar.zst`,
  sha256: 'a'.repeat(64),
  size_bytes: 1,
  install_path: `/data/bin/${name}`,
  ...fields,
});
const needs = (...names: string[]) => ({ dependencies: names.map((name) => ({ name, min_version: '1.0.0' })) });
const order = (components: readonly Component[], installed: Record<string, string> = {}, rules?: ComponentRules) =>
  orderComponents(components, new Map(Object.entries(installed)), rules).map(({ name }) => name);

describe('order', () => {
  test('is that of the manifest where nothing depends on anything', () => {
    expect(order([component('c'), component('a'), component('b')])).toEqual(['c', 'a', 'b']);
  });

  test('puts what is needed first, over several steps', () => {
    const components = [component('a', needs('b')), component('b', needs('c')), component('d'), component('c')];
    expect(order(components)).toEqual(['c', 'b', 'a', 'd']);
  });

  test('puts the agent last, even when another component needs it', () => {
    const components = [component('qx-node', needs('a')), component('b', needs('qx-node')), component('a')];
    expect(order(components)).toEqual(['b', 'a', 'qx-node']);
  });

  test('keeps to every dependency, whatever the graph', () => {
    const graphs = fc.array(fc.array(fc.nat(20), { maxLength: 5 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(graphs, fc.array(fc.nat(1000), { minLength: 20, maxLength: 20 }), (graph, keys) => {
        // Only on those with a lower number, hence without circles; shuffled, hence in any order.
        const components = graph.map((on, i) =>
          component(`c${i}`, needs(...new Set(on.filter((n) => n < i).map((n) => `c${n}`)))),
        );
        const shuffled = components.toSorted((a, b) => (keys[+a.name.slice(1)] ?? 0) - (keys[+b.name.slice(1)] ?? 0));
        const ordered = order(shuffled);
        expect(ordered.toSorted()).toEqual(components.map(({ name }) => name).toSorted());
        for (const { name, dependencies } of components) {
          for (const needed of dependencies ?? [])
            expect(ordered.indexOf(needed.name)).toBeLessThan(ordered.indexOf(name));
        }
      }),
    );
  });
});

describe('dependencies', () => {
  const unmet = expect.objectContaining({ code: 'DEPENDENCY_UNMET' });
  const wants = (name: string, min_version: string) => component('a', { dependencies: [{ name, min_version }] });

  test.each([
    ['installed and new enough', [wants('b', '1.5.0')], { b: '1.5.0' }],
    ['part of the update', [wants('b', '2.0.0'), component('b')], {}],
    ['replaced by a newer one', [wants('b', '2.0.0'), component('b')], { b: '1.0.0' }],
    ['the agent that is installed', [wants('qx-node', '1.0.0')], { 'qx-node': '1.2.0' }],
  ])('are met by one that is %s', (_what, components, installed) => {
    expect(order(components, installed as Record<string, string>)).toContain('a');
  });

  test.each([
    ['missing', [wants('b', '1.0.0')], {}],
    ['too old', [wants('b', '1.5.0')], { b: '1.4.9' }],
    ['a prerelease of what is needed', [wants('b', '1.5.0')], { b: '1.5.0-rc.1' }],
    ['replaced by an older one', [wants('b', '3.0.0'), component('b')], { b: '3.0.0' }],
    ['itself', [component('a', needs('a'))], {}],
    ['in a circle', [component('a', needs('b')), component('b', needs('c')), component('c', needs('a'))], {}],
  ])('are unmet by one that is %s', (_what, components, installed) => {
    expect(() => order(components, installed as Record<string, string>)).toThrow(unmet);
  });
});

describe('defect 3: install paths', () => {
  const refused = expect.objectContaining({ code: 'PATH_NOT_ALLOWED' });

  test.each(['/data/bin/a', '/data/share/quantix-host-ui', '/data/share/a/b/', '/data/bin/a.b_c-d+e'])(
    '%s is allowed',
    (path) => {
      expect(order([component('a', { install_path: path })])).toEqual(['a']);
    },
  );

  test.each([
    ...[
      '/etc/passwd',
      '/data/bin',
      '/data/bin/',
      '/data/binary/a',
      '/data',
      '/',
      '/data/versions/a',
      '/data/updates/a',
    ],
    ...[
      '/data/bin/../../etc/passwd',
      '/data/bin//a',
      '/data/bin/./a',
      '/data/bin/.a',
      '/data/share/.a.trees/x',
      'data/bin/a',
      '',
    ],
    '/data/bin/qx-node',
  ])('%j is refused', (path) => {
    expect(() => order([component('a', { install_path: path })])).toThrow(refused);
  });

  test('the agent is installed nowhere else', () => {
    expect(() => order([component('qx-node', { install_path: '/data/bin/other' })])).toThrow(refused);
  });

  test('one component is not installed inside another, nor over it', () => {
    const inside = [
      component('a', { install_path: '/data/share/a' }),
      component('b', { install_path: '/data/share/a/b' }),
    ];
    const same = [
      component('a', { install_path: '/data/share/a/' }),
      component('b', { install_path: '/data/share/a' }),
    ];
    const beside = [
      component('a', { install_path: '/data/share/a' }),
      component('b', { install_path: '/data/share/ab' }),
    ];
    expect(() => order(inside)).toThrow(refused);
    expect(() => order(same)).toThrow(refused);
    expect(order(beside)).toEqual(['a', 'b']);
  });

  test('another machine has other roots and another self', () => {
    const rules: ComponentRules = { roots: ['/usr/bin/'], self: { name: 'cp', path: '/usr/bin/cp' } };
    const paths = (name: string) => component(name, { install_path: `/usr/bin/${name}` });
    expect(order([paths('cp'), paths('qx-node')], {}, rules)).toEqual(['qx-node', 'cp']);
    expect(() => order([component('a')], {}, rules)).toThrow(refused);
  });
});

describe('which version of a component runs', () => {
  const carried = new Map([['qx-node', '1.1.0']]);
  const used = (there: string | null, isUnused = false, isSafe = false, own = carried) =>
    inUse(there === null ? new Map() : new Map([['qx-node', there]]), own, () => isUnused, isSafe).get('qx-node');

  test.each<[what: string, runs: string | undefined, expected: string | undefined]>([
    ['none in /data', used(null), '1.1.0'],
    ['a newer one in /data', used('1.2.0'), '1.2.0'],
    ['the same in /data', used('1.1.0'), '1.1.0'],
    ['an older one in /data', used('1.0.0'), '1.1.0'],
    ['a newer one in /data that was given up, or is gone', used('1.2.0', true), '1.1.0'],
    ['a newer one in /data, and quantix.safe', used('1.2.0', false, true), '1.1.0'],
    ['one in /data alone', used('1.0.0', true, true, new Map()), '1.0.0'],
  ])('%s', (_what, runs, expected) => {
    expect(runs).toBe(expected);
  });
});
