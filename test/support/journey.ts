import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import {
  type HostImage,
  type HostImageOptions,
  IMAGE_COMMANDS,
  makeHostImage,
} from '../../scripts/support/host-image.ts';
import { MACHINE_COMMANDS, type Machine, makeMachine } from '../../scripts/support/machine.ts';
import type { MachineOptions } from '../../scripts/support/machine-disk.ts';
import { type AtEnd, atTestEnd } from './at-end.ts';
import { type JourneyHost, journeyHost } from './journey-host.ts';
import { type Desk, releaseDesk } from './journey-releases.ts';
import { type JourneyServer, journeyServer } from './journey-server.ts';
import { type SlowLine, slowLine } from './slow-line.ts';

/** Whole journeys of releases: what `npm run build` made, a real server, and a machine to run it on. */

export const JOURNEY = {
  root: true,
  commands: [...new Set([...MACHINE_COMMANDS, ...IMAGE_COMMANDS])],
  files: { 'dist/host/bin/qx-node': 'npm run build -- --host', 'dist/qx-update-server': 'npm run build' },
} as const;

/** As long as a test may take on a machine that is busy with others. */
export const JOURNEY_TIMEOUT_MS = 240_000;

const SLOT_MIB = 256;
const DATA_MIB = 1536;

type ChangeTree = (tree: string) => Promise<void>;

export type ImageOf = (version: string, change?: ChangeTree) => Promise<HostImage>;

/** What all images of a file have besides; `change` comes before the one of a single image. */
type Common = Pick<HostImageOptions, 'kernel' | 'init' | 'compression' | 'change'>;

/** Images that the tests of one file share, each made when it is first asked for; they only read them. */
export function journeyImages(makeCommon: (folder: string) => Promise<Common> = async () => ({})): ImageOf {
  const made = new Map<string, Promise<HostImage>>();
  const folder = mkdtemp(join(tmpdir(), 'quantix-journey-images-'));
  const common = folder.then(makeCommon);
  common.catch(() => undefined);
  afterAll(async () => rm(await folder, { recursive: true, force: true }));
  return async (version, change) => {
    const image = made.get(version) ?? makeImage(await folder, version, await common, change);
    made.set(version, image);
    return image;
  };
}

const makeImage = (folder: string, version: string, common: Common, change?: ChangeTree): Promise<HostImage> =>
  makeHostImage({
    folder,
    version,
    executable: 'dist/host/bin/qx-node',
    rt: 'dist/host/rt',
    // What differs between machines is in /quantix: one image serves all of them.
    settings: `updates:\n  listen: "off"\n  keyring: ${KEYRING}\n`,
    compression: 'lzo, but for boot',
    ...common,
    change: async (tree) => {
      await common.change?.(tree);
      await change?.(tree);
    },
  });

const KEYRING = '/quantix/limiquantix/keyring.json';

export interface Journey {
  readonly folder: string;
  readonly desk: Desk;
  readonly server: JourneyServer;
  /** Between the server and the host. */
  readonly line: SlowLine;
  /** Switched off. */
  readonly host: JourneyHost;
}

export interface JourneyOptions {
  readonly first: HostImage;
  /** The lines of `updates:` that this test needs. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Lines of /quantix/limiquantix/quantix-boot. */
  readonly boot?: Readonly<Record<string, number>>;
  /** Programs that the health gate asks, in /quantix: name -> text. */
  readonly hooks?: Readonly<Record<string, string>>;
  readonly stage?: Stage;
  /** When all of it goes; with the test otherwise. */
  readonly atEnd?: AtEnd;
}

/** The kind of machine that a journey is made on. */
export interface Stage {
  make(options: MachineOptions): Promise<Machine>;
  /** The address at which the host finds what listens on this machine's 127.0.0.1. */
  readonly outside: string;
  readonly patienceMs: number;
}

/** A machine whose only missing part is the kernel. */
const NAMESPACES: Stage = { make: makeMachine, outside: '127.0.0.1', patienceMs: 60_000 };

/** A release engineer, a server and a host that runs `first`. */
export async function setOut(options: JourneyOptions): Promise<Journey> {
  const { first, settings, boot, hooks = {}, stage = NAMESPACES, atEnd = atTestEnd } = options;
  const folder = await mkdtemp(join(tmpdir(), 'quantix-journey-'));
  atEnd(() => rm(folder, { recursive: true, force: true }));
  const desk = await releaseDesk(folder);
  const server = await journeyServer(folder, desk.keyring, atEnd);
  const line = await slowLine(server.url, atEnd);
  const configFolder = join(folder, 'config');
  await mkdir(join(configFolder, 'limiquantix/health.d'), { recursive: true });
  const at = (name: string): string => join(configFolder, 'limiquantix', name);
  const updates = {
    server_url: `"${line.url.replace('127.0.0.1', stage.outside)}"`,
    auto_check: 'false',
    health_timeout: '30s',
    ...settings,
  };
  await writeFile(at('node.yaml'), `updates:\n${lines(updates, ': ', '  ')}`);
  await writeFile(at('quantix-boot'), lines(boot ?? {}, '=', ''));
  for (const [name, text] of Object.entries(hooks)) await writeFile(at(`health.d/${name}`), text, { mode: 0o755 });
  await writeFile(at('keyring.json'), await readFile(desk.keyring));
  const machine = await stage.make({
    folder,
    image: first.image,
    bootFolder: first.bootFolder,
    configFolder,
    slotMib: SLOT_MIB,
    dataMib: DATA_MIB,
  });
  return { folder, desk, server, line, host: journeyHost(machine, stage.patienceMs, atEnd) };
}

const lines = (values: Readonly<Record<string, unknown>>, between: string, before: string): string =>
  Object.entries(values)
    .map(([name, value]) => `${before}${name}${between}${value}\n`)
    .join('');
