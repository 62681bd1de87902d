import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Metafile } from 'esbuild';
import { describe, expect, test } from 'vitest';
import { bundleBoth } from '../scripts/build/bundle.ts';
import { violations } from './support/architecture.ts';

async function readSources(): Promise<Map<string, string>> {
  const paths = globSync('src/**/*.{ts,tsx}').sort();
  return new Map(await Promise.all(paths.map(async (path) => [path, await readFile(path, 'utf8')] as const)));
}

const judge = (files: Record<string, string>): string[] => violations(new Map(Object.entries(files)));

test('the source keeps to the plan of the house', async () => {
  const sources = await readSources();
  expect(sources.size).toBeGreaterThan(5);
  expect(violations(sources)).toEqual([]);
});

describe('what the plan refuses', () => {
  test.each([
    [
      'a lower floor imports a higher one',
      'src/core/plan.ts',
      "import '../agent/install.ts';",
      'core may not import agent',
    ],
    [
      'a decision sees a port',
      'src/core/plan.ts',
      "import type { Clock } from '../ports.ts';",
      'core may not import ports',
    ],
    [
      'the agent imports the server',
      'src/agent/api.ts',
      "import { s } from '../server/store.ts';",
      'agent may not import server',
    ],
    [
      'the server imports the agent',
      'src/server/api.ts',
      "import { s } from '../agent/slot.ts';",
      'server may not import agent',
    ],
    [
      'delivery imports the system',
      'src/delivery/fetch.ts',
      "import { h } from '../system/http.ts';",
      'delivery may not import system',
    ],
    [
      'the system imports the agent',
      'src/system/disk.ts',
      "import { s } from '../agent/slot.ts';",
      'system may not import agent',
    ],
    [
      'a lazy import goes upward',
      'src/agent/api.ts',
      "export const f = () => import('../cli/host.ts');",
      'agent may not import cli',
    ],
    [
      'another program composes the system',
      'src/cli/host.ts',
      "import { h } from '../system/http.ts';",
      'cli may not import system',
    ],
    [
      'main loads a program it may not need',
      'src/main.ts',
      "import { main } from './cli/host.ts';",
      'before it is the program called',
    ],
    [
      'a test helper is imported',
      'src/core/plan.ts',
      "import { r } from '../../test/support/requires.ts';",
      'no source of the product',
    ],
    [
      'a format needs Node',
      'src/format/chunks.ts',
      "import { createHash } from 'node:crypto';",
      'runs in a browser too',
    ],
    ['a driver outside the system', 'src/cli/host.ts', "import { request } from 'undici';", 'drivers live in system'],
    [
      'a fastify plugin outside the system',
      'src/agent/api.ts',
      "import m from '@fastify/multipart';",
      'drivers live in system',
    ],
    [
      'the agent touches files itself',
      'src/agent/slot.ts',
      "import { open } from 'node:fs/promises';",
      'gets its effects as ports',
    ],
    [
      'a child process without execa',
      'src/system/process.ts',
      "import { spawn } from 'node:child_process';",
      'execa runs every',
    ],
    ['a barrel', 'src/core/index.ts', "export * from './plan.ts';", "exports another file's names"],
    ['a barrel of types', 'src/core/index.ts', "export type * from './plan.ts';", "exports another file's names"],
    ['a re-export by name', 'src/core/all.ts', "export { plan } from './plan.ts';", "exports another file's names"],
    ['module-level let', 'src/core/plan.ts', 'let count = 0;', 'module-level let'],
    ['exported module-level let', 'src/core/plan.ts', 'export let count = 0;', 'module-level let'],
    ['work at import', 'src/agent/daemon.ts', 'start();', 'does work when imported'],
    ['a room that is not in the plan', 'src/utils/strings.ts', 'export const x = 1;', 'in no room of the house'],
    ['a file that is too long', 'src/core/plan.ts', '\n'.repeat(301), 'has 301 lines'],
  ])('%s', (_title, path, text, complaint) => {
    expect(judge({ [path]: text }).join('\n')).toContain(complaint);
  });

  test('an import circle, even of types', () => {
    const files = {
      'src/core/a.ts': "import { b } from './b.ts';",
      'src/core/b.ts': "import type { C } from './c.ts';",
      'src/core/c.ts': "import { a } from './a.ts';",
    };
    expect(judge(files)).toEqual(['import circle: src/core/a.ts -> src/core/b.ts -> src/core/c.ts -> src/core/a.ts']);
  });
});

test('what the plan allows is let through', () => {
  const files = {
    'src/main.ts': "const f = () => import('./cli/serve.ts');\nf();",
    'src/cli/serve.ts': "import { h } from '../system/http.ts';\nimport { s } from '../agent/slot.ts';",
    'src/system/http.ts':
      "import { request } from 'undici';\nimport type { Http } from '../ports.ts';\nexport const h = request;",
    'src/agent/slot.ts':
      "import { createHash } from 'node:crypto';\nimport type { Disk } from '../ports.ts';\nexport function s() { let n = 0; }",
    'src/ports.ts': "export type { Slot } from './format/grubenv.ts';\nexport interface Http {}",
  };
  expect(judge(files)).toEqual([]);
});

describe('the bundles', () => {
  const bundled = bundleBoth({ version: '0.0.0-test', buildDateMs: 0 }, false);
  const ours = (metafile: Metafile): string[] => Object.keys(metafile.inputs).filter((path) => path.startsWith('src/'));

  test('the executable starts with main.ts alone', async () => {
    expect(ours((await bundled).start)).toEqual(['src/main.ts']);
  });

  test('each program waits in the other bundle until it is called', async () => {
    const { inputs } = (await bundled).programs;
    const [entry = ''] = Object.keys(inputs).filter((path) => path.includes(':'));
    expect(inputs[entry]?.imports.map(({ path, kind }) => `${kind} ${path}`)).toEqual([
      'require-call src/cli/fetch.ts',
      'require-call src/cli/fleet.ts',
      'require-call src/cli/host.ts',
      'require-call src/cli/release.ts',
      'require-call src/cli/serve-releases.ts',
      'require-call src/cli/serve.ts',
      'require-call src/errors.ts',
    ]);
  });
});
