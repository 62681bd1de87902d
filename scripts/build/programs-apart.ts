import type { Plugin } from 'esbuild';

/** Names shared by the bundles, the loader below and the assets in sea-config.json. */
export const programsName = 'programs.cjs';
export const codeCacheName = 'programs.cache';

/** The text around the programs' bundle: a function, so that the loader can hand it what a module gets from Node. */
export const wrapper = { banner: { js: '(function (require, module) {' }, footer: { js: '})' } };

const loader = `
const { getAsset, getRawAsset } = require('node:sea');
const { Script } = require('node:vm');
const cachedData = new Uint8Array(getRawAsset('${codeCacheName}'));
const script = new Script(getAsset('${programsName}', 'utf8'), { filename: '${programsName}', cachedData });
script.runInThisContext()(require, module);
`;

/**
 * Moves everything that main.ts imports lazily out of the bundle that the executable starts with, into an asset.
 * In one bundle the engine takes in the code of all programs before it runs the first line, a third of what
 * `qx-update --version` costs. All of it goes into one asset, so that there is one class QxError to recognise.
 */
export function programsApart(moved: Set<string>): Plugin {
  return {
    name: 'programs-apart',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^\./ }, ({ kind, path }) => {
        if (kind !== 'dynamic-import') return undefined;
        moved.add(path);
        return { path, namespace: 'program' };
      });
      onResolve({ filter: /^programs$/, namespace: 'program' }, ({ path }) => ({ path, namespace: 'loader' }));
      onLoad({ filter: /./, namespace: 'program' }, ({ path }) => ({
        contents: `module.exports = require('programs')[${JSON.stringify(path)}]();`,
      }));
      onLoad({ filter: /./, namespace: 'loader' }, () => ({ contents: loader }));
    },
  };
}

/** The source of the programs' bundle: for each import of main.ts a function that loads it. */
export function programsEntry(moved: ReadonlySet<string>): string {
  const members = [...moved].sort().map((path) => `${JSON.stringify(path)}: () => require(${JSON.stringify(path)})`);
  return `module.exports = { ${members.join(', ')} };\n`;
}
