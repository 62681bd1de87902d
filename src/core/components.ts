import { QxError } from '../errors.ts';
import type { Component } from '../format/manifest.ts';
import { compareVersions, isNewer } from '../format/version.ts';

/** In which order components are swapped, and which may be at all. Pure; `delivery/components.ts` carries it out. */

export interface ComponentRules {
  /** Folders, ending in `/`, below which components may be installed. */
  readonly roots: readonly string[];
  /** The component that is the running agent itself, and where it lives. */
  readonly self: { readonly name: string; readonly path: string };
}

const HOST_RULES: ComponentRules = {
  roots: ['/data/bin/', '/data/share/'],
  self: { name: 'qx-node', path: '/data/bin/qx-node' },
};

/**
 * What others depend on comes first, otherwise the manifest's order; the agent itself comes last, whatever depends on it, because
 * it takes effect only when the agent starts again.
 * @throws QxError PATH_NOT_ALLOWED | DEPENDENCY_UNMET
 */
export function orderComponents(
  components: readonly Component[],
  installed: ReadonlyMap<string, string>,
  rules: ComponentRules = HOST_RULES,
): Component[] {
  checkPaths(components, rules);
  const byName = new Map(components.map((c) => [c.name, c]));
  for (const component of components) checkDependencies(component, byName, installed);

  const ordered = new Set<Component>();
  const visit = (component: Component, trail: readonly string[]): void => {
    if (ordered.has(component)) return;
    if (trail.includes(component.name))
      unmet(`components depend on each other: ${[...trail, component.name].join(' -> ')}`);
    for (const { name } of component.dependencies ?? []) {
      const needed = byName.get(name);
      if (needed !== undefined && needed.name !== rules.self.name) visit(needed, [...trail, component.name]);
    }
    ordered.add(component);
  };
  const isSelf = (component: Component): boolean => component.name === rules.self.name;
  for (const component of components) if (!isSelf(component)) visit(component, []);
  return [...ordered].filter((c) => !isSelf(c)).concat(components.filter(isSelf));
}

/** What this update brings counts, and not what it replaces: that is gone when the component starts. */
function checkDependencies(
  { name, dependencies }: Component,
  byName: ReadonlyMap<string, Component>,
  installed: ReadonlyMap<string, string>,
): void {
  for (const dependency of dependencies ?? []) {
    const version = byName.get(dependency.name)?.version ?? installed.get(dependency.name);
    const needs = `${name} needs ${dependency.name} ${dependency.min_version} or newer`;
    if (version === undefined) unmet(`${needs}, and this host has none`);
    if (compareVersions(version, dependency.min_version) < 0) unmet(`${needs}, and there would be ${version}`);
  }
}

function checkPaths(components: readonly Component[], { roots, self }: ComponentRules): void {
  const paths = components.map(installPath);
  components.forEach((component, i) => {
    const path = paths[i] ?? '';
    const names = path.split('/').slice(1);
    const isPlain = names.every((name) => name !== '' && !name.startsWith('.'));
    if (!isPlain || !roots.some((root) => path.startsWith(root))) {
      refuse(component, `is below none of ${roots.join(', ')}`);
    }
    const outer = paths.find((other, j) => i !== j && (path === other || path.startsWith(`${other}/`)));
    if (outer !== undefined) refuse(component, `is inside ${outer}, which another component replaces`);
    // Under another name the agent would be restarted in the middle of its own work.
    if ((path === self.path) !== (component.name === self.name)) refuse(component, `is not for ${component.name}`);
  });
}

/** Whether the boot scripts pass over this version of a component that lies in /data. */
export type UnusedInData = (name: string, version: string) => boolean;

/**
 * Which version of each component runs: /data's only where it is newer than the image's own and was not given up here. As the
 * boot scripts choose.
 */
export function inUse(
  inData: ReadonlyMap<string, string>,
  carried: ReadonlyMap<string, string>,
  isUnused: UnusedInData,
  isSafe: boolean,
): ReadonlyMap<string, string> {
  const used = new Map(inData);
  for (const [name, own] of carried) {
    const there = inData.get(name);
    const isUsed = !isSafe && there !== undefined && isNewer(there, own) && !isUnused(name, there);
    if (!isUsed) used.set(name, own);
  }
  return used;
}

/** Without the slash that a folder may carry at its end. */
export const installPath = ({ install_path }: { readonly install_path: string }): string =>
  install_path.replace(/\/$/, '');

function refuse({ name, install_path }: Component, reason: string): never {
  throw new QxError('PATH_NOT_ALLOWED', `component ${name}: install path ${install_path} ${reason}`);
}

function unmet(reason: string): never {
  throw new QxError('DEPENDENCY_UNMET', reason);
}
