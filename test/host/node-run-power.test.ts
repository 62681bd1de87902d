import { cp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  type HostRoot,
  hostRequirements,
  hostRoot,
  putData,
  type Shell,
  shells,
  standIn,
} from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

/**
 * The power goes before each command of node-run that changes something, in turn. Functions stand in front of the commands,
 * since BusyBox's shell does not look for its own ones in the PATH; once the power is off, none of them does anything.
 */
const CUT = `
power() {
  [ ! -e "$QX_ROOT/off" ] || return 1
  # Nothing of it outlives the cut, so that there is nothing to learn.
  case "$*" in *"$QX_ROOT/run/"*) return 0 ;; esac
  read -r left <"$QX_ROOT/left"
  if [ "$left" -gt 0 ]; then echo "$((left - 1))" >"$QX_ROOT/left" && return 0; fi
  : >"$QX_ROOT/off"
  kill -s KILL $$
  return 1
}
dd() {
  if power "$@"; then command dd "$@"; return; fi
  # Some of the bytes are there.
  for word in "$@"; do case $word in of=*) printf x >"\${word#of=}" ;; esac; done
  return 1
}
${['mv', 'rm', 'ln', 'mkdir', 'chmod', 'sync'].map((name) => `${name}() { power "$@" && command ${name} "$@"; }`).join('\n')}
`;

const nodeRun = 'usr/lib/quantix/node-run';
const start = (root: HostRoot) => root.run(nodeRun);

async function cuttableHost(shell: Shell): Promise<HostRoot> {
  const root = await hostRoot(shell);
  await putData(root, 'qx-node', '1.2.0');
  await root.write('data/updates/backup/qx-node/20261120T120000Z-1.1.0/qx-node', standIn('backup 1.1.0'), 0o755);
  return root;
}

/** Starts once from where `data` was saved, with power for so many commands. Answers whether it went off. */
async function cutAfter(root: HostRoot, count: number): Promise<boolean> {
  const [data, saved] = [join(root.path, 'data'), join(root.path, 'saved')];
  await rm(data, { recursive: true });
  await cp(saved, data, { recursive: true, preserveTimestamps: true });
  const functions = 'usr/lib/quantix/functions.sh';
  const ours = (await root.read(functions)) ?? '';
  await root.write(functions, `${ours}${CUT}`);
  await root.write('left', `${count}\n`);
  await start(root);
  const wasCut = (await root.read('off')) !== null;
  await rm(join(root.path, 'off'), { force: true });
  await root.write(functions, ours);
  // What was in memory is gone.
  await rm(join(root.path, 'run'), { recursive: true, force: true });
  return wasCut;
}

async function cutEverywhere(root: HostRoot, check: (cut: string) => Promise<void>): Promise<number> {
  await rename(join(root.path, 'data'), join(root.path, 'saved'));
  await cp(join(root.path, 'saved'), join(root.path, 'data'), { recursive: true });
  for (let count = 0; ; count++) {
    if (!(await cutAfter(root, count))) return count;
    await check(`cut before command ${count + 1}`);
  }
}

requires(hostRequirements)('the power goes while node-run', () => {
  describe.each(shells)('in $name', { timeout: 240_000 }, (shell) => {
    test('gives a version up: the one before it runs, and the reason is there', async () => {
      await using root = await cuttableHost(shell);
      for (let i = 0; i < 3; i++) await start(root);
      const cuts = await cutEverywhere(root, async (cut) => {
        // Nobody knows any more how the third start ended: if nothing was marked yet, it is tried once more.
        const isMarked = (await root.read('data/versions/qx-node.bad')) !== null;
        if (!isMarked) expect((await start(root)).stdout, cut).toBe('data 1.2.0 ');
        expect((await start(root)).stdout, cut).toBe('backup 1.1.0 ');
        expect(await root.read('data/versions/qx-node.bad'), cut).toBe('1.2.0\n');
        expect(await root.read('data/versions/qx-node.bad-reason'), cut).toMatch(/^1\.2\.0 was started 3 times/);
        expect(await root.read('data/versions/qx-node.version'), cut).toBe('1.1.0\n');
        expect(await root.read('data/updates/node-starts'), cut).toMatch(/^1 1\.1\.0( 1)?\n/);
      });
      expect(cuts).toBeGreaterThanOrEqual(15);
    });

    test('counts a start: it is counted, or it was none', async () => {
      await using root = await cuttableHost(shell);
      await start(root);
      const cuts = await cutEverywhere(root, async (cut) => {
        expect((await start(root)).stdout, cut).toBe('data 1.2.0 ');
        expect(await root.read('data/updates/node-starts'), cut).toMatch(/^[12] 1\.2\.0 [12]\n/);
        expect(await root.read('data/versions/qx-node.bad'), cut).toBeNull();
      });
      expect(cuts).toBeGreaterThanOrEqual(3);
    });
  });
});
