import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { localVms } from '../support/local-vms.ts';
import { temporaryFolder } from '../support/temp.ts';

/**
 * The example for libvirt, as it is shipped. There is no hypervisor here: in the place of virsh is a program with its words,
 * whose VMs are processes.
 */

const PROGRAM = join(import.meta.dirname, '../../examples/drain.d/libvirt');

/** `stubborn-*` cannot be moved, `deaf-*` does not shut down either. */
const VIRSH = `#!/bin/sh
cd "$VMS" || exit 1
echo "$*" >>../virsh-calls
word=$1
for vm; do :; done
case $word in
  list) for f in *; do [ -f "$f" ] && kill -0 "$(cat "$f")" 2>/dev/null && echo "$f"; done; echo ;;
  migrate)
    shift 4
    case $1 in stubborn* | deaf*) echo "error: unsafe migration" >&2; exit 1 ;; esac
    kill "$(cat "$1")" ;;
  shutdown) case $vm in deaf*) ;; *) kill "$(cat "$vm")" ;; esac ;;
  start) echo "$vm" >>../started ;;
esac
`;

async function hypervisor(...names: readonly string[]) {
  const root = await temporaryFolder();
  const vms = await localVms(root);
  for (const name of names) await vms.run(name);
  await writeFile(join(root, 'virsh'), VIRSH);
  await chmod(join(root, 'virsh'), 0o755);
  const call = (word: string, environment: Readonly<Record<string, string>> = {}) =>
    execa(PROGRAM, [word], {
      env: { PATH: `${root}:/usr/bin:/bin`, VMS: vms.folder, KEPT: join(root, 'kept'), ...environment },
      extendEnv: false,
      reject: false,
    });
  return { root, vms, call };
}

test('lists what runs, moves it away, and says that nothing is left', async () => {
  const { vms, call } = await hypervisor('web 1', 'db*');
  expect((await call('list')).stdout.split('\n')).toEqual(['db*', 'web 1']);
  const environment = { TARGET: 'qemu+ssh://qhci-02/system' };
  expect(await call('drain', environment)).toMatchObject({ exitCode: 0 });
  expect(await vms.alive()).toEqual([]);
  expect((await call('list')).stdout).toBe('');
});

test('keeps what cannot be moved, and names it', async () => {
  const { vms, call } = await hypervisor('web-1', 'stubborn-1');
  const { exitCode, stderr } = await call('drain', { TARGET: 'qemu+ssh://qhci-02/system' });
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('still here: stubborn-1')]);
  expect(await vms.alive()).toEqual(['stubborn-1']);
});

test('without another host nothing is moved, and nothing is shut down unasked', async () => {
  const { vms, call } = await hypervisor('web-1');
  expect(await call('drain')).toMatchObject({ exitCode: 1 });
  expect(await vms.alive()).toEqual(['web-1']);
});

test('shuts down where that is wanted, and starts what it has shut down when it is over', async () => {
  const { root, vms, call } = await hypervisor('web-1', 'stubborn-1');
  expect(await call('drain', { ON_FAILURE: 'shutdown' })).toMatchObject({ exitCode: 0 });
  expect(await vms.alive()).toEqual([]);
  await call('undrain');
  expect((await execa('cat', [join(root, 'started')])).stdout.split('\n').sort()).toEqual(['stubborn-1', 'web-1']);
  expect(await call('undrain')).toMatchObject({ exitCode: 0 });
  expect((await execa('cat', [join(root, 'started')])).stdout.split('\n')).toHaveLength(2);
});

test('a VM that does not shut down in time is still here', async () => {
  const { vms, call } = await hypervisor('deaf-1');
  const { exitCode, stderr } = await call('drain', { ON_FAILURE: 'shutdown', SHUTDOWN_SECONDS: '2' });
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('still here: deaf-1')]);
  expect(await vms.alive()).toEqual(['deaf-1']);
});

test('any other word changes nothing', async () => {
  const { vms, call } = await hypervisor('web-1');
  expect(await call('destroy')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('list|drain|undrain') });
  expect(await vms.alive()).toEqual(['web-1']);
});
