import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../support/temp.ts';

test('a fresh clone gets its modules, also from a script that ends at the first failure', async () => {
  const clone = await temporaryFolder();
  await writeFile(join(clone, 'package-lock.json'), '{}');
  await writeFile(join(clone, 'npm'), '#!/bin/sh\necho "npm $*" >&2\n', { mode: 0o755 });
  const script = `set -eu; . ${resolve('scripts/packages.sh')}; install_node_modules; echo done`;
  const { stdout, stderr } = await execa('sh', ['-c', script], { cwd: clone, env: { PATH: `${clone}:/usr/bin:/bin` } });
  expect([stdout, stderr]).toEqual(['done', 'npm ci']);
});
