import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { onTestFinished } from 'vitest';
import type { Component, Manifest } from '../../src/format/manifest.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import { badServer, serve, status } from './bad-server.ts';
import { built } from './built.ts';
import { block, goodA } from './grub-block.ts';
import { signedManifest } from './keys.ts';
import { temporaryFolder } from './temp.ts';

/** A whole host in a folder, its agent as a process, and a server with releases for it. */

const environment = { env: { PATH: process.env.PATH ?? '' }, extendEnv: false, reject: false } as const;

export interface HostFolder {
  readonly path: string;
  write(file: string, text: string, mode?: number): Promise<void>;
}

/** Runs slot A of version 1.0.0; `settings` are lines of `updates:`. */
export async function hostFolder(settings: readonly string[] = [], folder?: string): Promise<HostFolder> {
  const path = folder ?? join(await temporaryFolder(), 'host');
  const write = async (file: string, text: string, mode = 0o644): Promise<void> => {
    await mkdir(dirname(join(path, file)), { recursive: true });
    await writeFile(join(path, file), text, { mode });
  };
  await write('etc/quantix-version', '1.0.0\n');
  await write('proc/cmdline', 'quantix.slot=A quantix.env=grubenv\n');
  for (const copy of ['grubenv', 'grubenv.bak']) await write(`boot/grub/${copy}`, block(goodA));
  await write('data/versions/qx-console.version', '1.0.0\n');
  await write('data/bin/qx-console', 'the old console\n', 0o755);
  const lines = ['listen: 127.0.0.1:0', 'auto_check: false', ...settings];
  await write('etc/limiquantix/node.yaml', `updates:\n${lines.map((line) => `  ${line}\n`).join('')}`);
  return { path, write };
}

export interface ReleaseServer {
  readonly url: string;
  /** Settings of a host that takes its releases from here and trusts who signed them. */
  readonly settings: readonly string[];
  /** Writes the keyring that these settings name into a host. */
  trustIn(host: HostFolder): Promise<void>;
  /** While held, artifacts are announced but none of their bytes are sent. */
  hold(isHeld: boolean): void;
}

export const NEW_CONSOLE = 'the new console\n';

/** Serves one release of 1.1.0 with the named components; each is a file of its own bytes. */
export async function releaseServer(
  components: Readonly<Record<string, string>> = { 'qx-console': NEW_CONSOLE },
  manifest: Partial<Manifest> = {},
): Promise<ReleaseServer> {
  const folder = await temporaryFolder();
  const listed: Component[] = [];
  const artifacts = new Map<string, Uint8Array>();
  for (const [name, content] of Object.entries(components)) {
    const source = join(folder, name);
    await writeFile(source, content, { mode: 0o755 });
    const { sha256, sizeBytes } = await packArchive(source, `${source}.tar.zst`);
    const artifact = `${name}.tar.zst`;
    const ref = { name, version: '1.1.0', artifact, sha256, size_bytes: sizeBytes, install_path: `/data/bin/${name}` };
    listed.push(ref);
    artifacts.set(artifact, await readBytes(`${source}.tar.zst`));
  }
  const { envelope, keyring } = await signedManifest({ manifest: { components: listed, ...manifest } });
  const state = { isHeld: false };
  const server = await badServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://server');
    if (pathname.endsWith('/manifest/signed')) return serve(envelope, '"envelope"')(request, response);
    if (pathname.endsWith('/releases/1.1.0/manifest')) return serve(envelope, '"envelope"')(request, response);
    const bytes = artifacts.get(pathname.slice(pathname.lastIndexOf('/') + 1));
    if (bytes === undefined) return status(404)(request, response);
    if (state.isHeld) return void response.writeHead(200, { 'content-length': bytes.length }).flushHeaders();
    return serve(bytes)(request, response);
  });
  return {
    url: server.url,
    settings: [`server_url: ${server.url}`, 'keyring: /etc/keyring.json'],
    trustIn: (host) => host.write('etc/keyring.json', JSON.stringify(keyring)),
    hold: (isHeld) => void Object.assign(state, { isHeld }),
  };
}

const readBytes = async (path: string): Promise<Uint8Array> => new Uint8Array(await readFile(path));

export interface RunningAgent {
  readonly pid: number;
  readonly port: number;
  output(): string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<{ readonly exitCode: number | undefined }>;
}

/** `qx-node`, which is expected to end by itself. */
export const runAgentProcess = (root: string, ...args: readonly string[]) => spawnAgent(root, {}, args);

const spawnAgent = (root: string, extra: Readonly<Record<string, string>>, args: readonly string[] = []) =>
  execa(built('qx-node'), ['--root', root, ...args], {
    ...environment,
    env: { ...environment.env, ...extra },
    all: true,
  });

/** Starts an agent, with more in its environment, and waits until it listens. It is killed when the test is over. */
export async function startAgent(root: string, extra: Readonly<Record<string, string>> = {}): Promise<RunningAgent> {
  const agent = spawnAgent(root, extra);
  onTestFinished(() => void agent.kill('SIGKILL'));
  const printed: string[] = [];
  const port = await new Promise<number>((resolve, reject) => {
    agent.all.on('data', (data: Buffer) => {
      printed.push(data.toString());
      const line = /"msg":"listening"/.exec(printed.join(''));
      if (line) resolve(Number(/"port":([0-9]+)/.exec(printed.join(''))?.[1] ?? 0));
    });
    agent.then(() => reject(new Error(`the agent did not start:\n${printed.join('')}`)), reject);
  });
  return {
    port,
    pid: agent.pid ?? 0,
    output: () => printed.join(''),
    kill: (signal) => void agent.kill(signal),
    ended: agent.then(({ exitCode }) => ({ exitCode })),
  };
}

export interface Ran {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** `qx-update` for the host in a folder. */
export const qxUpdate = (root: string, ...args: readonly string[]): Promise<Ran> => ran(followUpdate(root, ...args));

/** The same, to be stopped in the middle. */
export const followUpdate = (root: string, ...args: readonly string[]) =>
  execa(built('qx-update'), ['--root', root, ...args], environment);

/** As the boot scripts call it. */
export const qxUpdateByEnvironment = (QX_ROOT: string, ...args: readonly string[]): Promise<Ran> =>
  ran(execa(built('qx-update'), args, { ...environment, env: { ...environment.env, QX_ROOT } }));

type Ended = PromiseLike<{ readonly exitCode?: number; readonly stdout: string; readonly stderr: string }>;

async function ran(process: Ended): Promise<Ran> {
  const { exitCode, stdout, stderr } = await process;
  return { exitCode, stdout, stderr };
}
