import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, vi } from 'vitest';
import type { ComponentContext } from '../../src/delivery/components/context.ts';
import { QxError } from '../../src/errors.ts';
import type { ComponentEntry } from '../../src/format/journal.ts';
import type { Archive, ArchiveRef, Files, ServiceState, Services } from '../../src/ports.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import { hostArchive } from '../../src/system/archive.ts';
import { hostFiles } from '../../src/system/files.ts';
import { fakeClock, recordedLog } from './fakes.ts';

/** A host in a folder with components at version 1.0.0, and the archives of their next versions. */

export type Tree = Readonly<Record<string, string>>;

export async function writeTree(top: string, tree: Tree): Promise<void> {
  for (const [path, text] of Object.entries(tree)) {
    await mkdir(dirname(join(top, path)), { recursive: true });
    await writeFile(join(top, path), text, { mode: path.includes('bin/') ? 0o755 : 0o644 });
  }
}

/** What a user of the host sees below `top`: symlinks followed, names with a dot left out. */
export async function readTree(top: string): Promise<Tree> {
  const found: Record<string, string> = {};
  const walk = async (path: string): Promise<void> => {
    for (const name of (await readdir(join(top, path)).catch(() => [])).sort()) {
      const inner = path === '' ? name : `${path}/${name}`;
      if (name.startsWith('.')) continue;
      if ((await stat(join(top, inner))).isDirectory()) await walk(inner);
      else found[inner] = await readFile(join(top, inner), 'utf8');
    }
  };
  await walk('');
  return found;
}

export const linkAt = (root: string, path: string): Promise<string | null> =>
  readlink(join(root, path)).catch(() => null);

export const OLD: Tree = {
  'bin/qx-console': 'console 1',
  'bin/qx-node': 'node 1',
  'share/ui/index.html': 'ui 1',
  'share/ui/old/only-in-1.js': 'stale',
  'versions/qx-console.version': '1.0.0\n',
  'versions/qx-node.version': '1.0.0\n',
  'versions/ui.version': '1.0.0\n',
};

export const NEW: Tree = {
  'bin/qx-console': 'console 2',
  'bin/qx-node': 'node 2',
  'bin/qx-extra': 'extra 2',
  'share/ui/index.html': 'ui 2',
  'share/ui/new/only-in-2.js': 'fresh',
  'versions/qx-console.version': '2.0.0\n',
  'versions/qx-extra.version': '2.0.0\n',
  'versions/qx-node.version': '2.0.0\n',
  'versions/ui.version': '2.0.0\n',
};

const entry = (name: string, fields: Partial<ComponentEntry>): ComponentEntry => ({
  name,
  version: '2.0.0',
  previous_version: '1.0.0',
  artifact: `${name}.tar.zst`,
  install_path: `/data/bin/${name}`,
  kind: null,
  permissions: '0755',
  restart_service: null,
  unpacked_size_bytes: null,
  backup: null,
  state: 'pending',
  ...fields,
});

export const ENTRIES: readonly ComponentEntry[] = [
  entry('ui', { install_path: '/data/share/ui', kind: 'directory', restart_service: 'quantix-node' }),
  entry('qx-console', { restart_service: 'quantix-console' }),
  entry('qx-extra', { previous_version: null, restart_service: 'quantix-console' }),
  entry('qx-node', { restart_service: 'quantix-node' }),
];

/** Packed once: the same bytes serve every test of a file. */
export async function packAll(folder: string): Promise<ReadonlyMap<string, ArchiveRef>> {
  const refs = new Map<string, ArchiveRef>();
  const sources = join(folder, 'sources');
  await writeTree(sources, NEW);
  for (const { name, install_path } of ENTRIES) {
    const target = join(folder, `${name}.tar.zst`);
    const { sha256, sizeBytes } = await packArchive(join(sources, install_path.replace('/data/', '')), target);
    refs.set(name, { path: target, sha256, sizeBytes });
  }
  return refs;
}

/** The archives that the tests of one file share; empty until its first test. */
export function packedOnce(): ReadonlyMap<string, ArchiveRef> {
  const folder = mkdtempSync(join(tmpdir(), 'quantix-test-packed-'));
  const refs = new Map<string, ArchiveRef>();
  beforeAll(async () => {
    for (const [name, ref] of await packAll(folder)) refs.set(name, ref);
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  return refs;
}

/** What a host has of its components, without the backups. */
export const dataOf = async (root: string): Promise<Tree> =>
  Object.fromEntries(
    Object.entries(await readTree(join(root, 'data'))).filter(([path]) => !path.startsWith('updates/')),
  );

export const only = (...names: string[]): ComponentEntry[] => ENTRIES.filter(({ name }) => names.includes(name));

export const states = (entries: readonly ComponentEntry[] | null): ComponentEntry['state'][] | undefined =>
  entries?.map(({ state }) => state);

/** Services that run what lay on the disk when they were last started. */
export interface FakeServices extends Services {
  readonly running: Map<string, string>;
  readonly restarts: string[];
  /** Answers of the next calls, by service. */
  readonly failing: Set<string>;
  readonly states: Map<string, ServiceState[]>;
  readonly looping: Set<string>;
}

function fakeServices(files: Files): FakeServices {
  const running = new Map<string, string>();
  const restarts: string[] = [];
  const failing = new Set<string>();
  const states = new Map<string, ServiceState[]>();
  const looping = new Set<string>();
  const asked = { count: 0 };
  return {
    standIn: null,
    running,
    restarts,
    failing,
    states,
    looping,
    restart: async (name) => {
      restarts.push(name);
      const program = name === 'quantix-console' ? '/data/bin/qx-console' : '/data/bin/qx-node';
      running.set(name, new TextDecoder().decode((await files.read(program, 1 << 20)) ?? new Uint8Array()));
      if (failing.delete(name)) throw new QxError('SERVICE_FAILED', `service ${name} did not restart`);
    },
    state: async (name) => states.get(name)?.shift() ?? 'started',
    instance: async (name) => (looping.has(name) ? String(asked.count++) : 'one'),
  };
}

const JOURNAL = '/quantix/components.json';

export interface ComponentHost {
  readonly files: Files;
  readonly archive: Archive;
  readonly services: FakeServices;
  context(overrides?: Partial<ComponentContext>): ComponentContext;
  journal(): Promise<readonly ComponentEntry[] | null>;
}

/** `ports` may be such that the power can be cut; the folder is what stays. */
export function componentHost(
  root: string,
  refs: ReadonlyMap<string, ArchiveRef>,
  ports: { files: Files; archive: Archive; services: FakeServices } = freshPorts(root),
): ComponentHost {
  const { files, archive, services } = ports;
  const artifact = ({ name }: ComponentEntry): ArchiveRef =>
    refs.get(name) ?? { path: '/none', sha256: '', sizeBytes: 0 };
  return {
    files,
    archive,
    services,
    context: (overrides = {}) => ({
      files,
      archive,
      services,
      clock: fakeClock(),
      log: recordedLog(),
      save: async (entries) => files.writeAtomic(JOURNAL, new TextEncoder().encode(JSON.stringify(entries))),
      artifact,
      paths: { backupsOf: (name) => `/data/updates/backup/${name}`, versions: '/data/versions' },
      maxBackups: 3,
      self: { name: 'qx-node', service: 'quantix-node' },
      settleMs: 3000,
      probe: vi.fn(async () => undefined),
      ...overrides,
    }),
    journal: async () => {
      const bytes = await files.read(JOURNAL, 1 << 20);
      return bytes === null ? null : JSON.parse(new TextDecoder().decode(bytes));
    },
  };
}

export function freshPorts(root: string): { files: Files; archive: Archive; services: FakeServices } {
  const files = hostFiles(root);
  return { files, archive: archiveOf(root), services: fakeServices(files) };
}

/** The archives lie outside the host, where all tests share them. */
function archiveOf(root: string): Archive {
  const machine = hostArchive('');
  return { extract: (ref, directory, ...rest) => machine.extract(ref, `${root}${directory}`, ...rest) };
}
