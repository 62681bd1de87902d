import { mkdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { freshState } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';

/** A host in a folder that runs 1.0.0 from slot A, and its agent, which is the built program. */
export interface BenchHost extends AsyncDisposable {
  readonly root: string;
  readonly agentPid: number;
}

export interface HostRequest {
  readonly root: string;
  readonly serverUrl: string;
  readonly keyring: string;
  /** A device or a file outside the host's folder. */
  readonly slotB: string;
  /** Another copy of the agent than the one in dist. */
  readonly executable?: string;
  /** More lines below `updates:`. */
  readonly settings?: readonly string[];
}

const SLOT_A_BYTES = 1 << 20;
const START_TIMEOUT_MS = 15_000;

export async function startHost(request: HostRequest): Promise<BenchHost> {
  const { root, executable = 'dist/qx-node' } = request;
  await layHost(request);
  const log = { file: `${root}.log`, append: true } as const;
  const agent = execa(executable, ['--root', root], { stdin: 'ignore', stdout: log, stderr: log, reject: false });
  const stop = async (): Promise<void> => {
    agent.kill('SIGTERM');
    await agent;
    await rm(root, { recursive: true });
  };
  const died = agent.then(async () => {
    throw new Error(`the agent ended:\n${await readFile(log.file, 'utf8')}`);
  });
  try {
    await Promise.race([untilThere(join(root, 'run/quantix/node.sock')), died]);
  } catch (error) {
    await stop();
    throw error;
  } finally {
    died.catch(() => undefined);
  }
  return { root, agentPid: agent.pid as number, [Symbol.asyncDispose]: stop };
}

async function untilThere(path: string): Promise<void> {
  const endMs = performance.now() + START_TIMEOUT_MS;
  while ((await stat(path).catch(() => null)) === null) {
    if (performance.now() > endMs) throw new Error(`${path} is not there after ${START_TIMEOUT_MS} ms`);
    await sleep(20);
  }
}

async function layHost({ root, serverUrl, keyring, slotB, settings = [] }: HostRequest): Promise<void> {
  const write = async (path: string, content: string | Uint8Array): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  };
  const devices = 'dev/disk/by-partlabel';
  await write(`${devices}/QUANTIX-A`, '');
  await truncate(join(root, devices, 'QUANTIX-A'), SLOT_A_BYTES);
  await symlink(slotB, join(root, devices, 'QUANTIX-B'));
  for (const copy of ['grubenv', 'grubenv.bak']) await write(`boot/grub/${copy}`, encodeBoot(freshState('A')));
  await write('proc/cmdline', 'quantix.slot=A quantix.env=grubenv\n');
  await write('etc/quantix-version', '1.0.0\n');
  await mkdir(join(root, 'quantix'));
  await write('etc/limiquantix/keyring.json', await readFile(keyring));
  const lines = [
    `server_url: ${serverUrl}`,
    'keyring: /etc/limiquantix/keyring.json',
    'listen: 127.0.0.1:0',
    ...settings,
  ];
  await write('etc/limiquantix/node.yaml', `updates:\n${lines.map((line) => `  ${line}\n`).join('')}`);
}
