import type { UnusedInData } from '../core/components.ts';
import { readInstalled } from '../delivery/components/versions.ts';
import type { Files } from '../ports.ts';
import { PATHS } from './host.ts';

/**
 * Which components the image itself brings, and which of them run: /data's only where it is newer than the image's own and was
 * not given up. The boot scripts choose by the same rule (`qx_refusal` in openrc/quantix-functions.sh).
 */

/** What has to be there for the image to have one of its own, and for /data. */
const PLACES = {
  'qx-node': { own: '/usr/lib/quantix/bin/qx-node', inData: '/data/bin/qx-node' },
  'qx-console': { own: '/usr/lib/quantix/bin/qx-console', inData: '/data/bin/qx-console' },
  'host-ui': { own: '/usr/share/quantix-host-ui/index.html', inData: '/data/share/quantix-host-ui/index.html' },
} as const;
const OWN_VERSIONS = '/usr/share/quantix/versions';
const MAX_BAD_BYTES = 65_536;

/** The image was built as one: its version stands in for that of a component which names none. */
export async function carriedComponents(files: Files, osVersion: string): Promise<ReadonlyMap<string, string>> {
  const named = await readInstalled(files, OWN_VERSIONS);
  const carried = new Map<string, string>();
  for (const [name, { own }] of Object.entries(PLACES)) {
    if (await isThere(files, own)) carried.set(name, named.get(name) ?? osVersion);
  }
  return carried;
}

/** What the boot scripts would not use of /data: a version that was given up on this host, and one whose files are gone. */
export async function unusedInData(files: Files): Promise<UnusedInData> {
  const given = new Map<string, ReadonlySet<string>>();
  const gone = new Set<string>();
  for (const [name, { inData }] of Object.entries(PLACES)) {
    if (!(await isThere(files, inData))) gone.add(name);
    given.set(name, new Set(await badVersions(files, name).catch(() => [])));
  }
  return (name, version) => gone.has(name) || given.get(name)?.has(version) === true;
}

/** Those of a component that node-run, or somebody, has marked bad: one a line. */
export const badVersions = async (files: Files, name: string): Promise<readonly string[]> =>
  new TextDecoder().decode((await files.read(badPath(name), MAX_BAD_BYTES)) ?? new Uint8Array()).split('\n');

export const badPath = (name: string): string => `${PATHS.versions}/${name}.bad`;

const isThere = async (files: Files, path: string): Promise<boolean> =>
  (await files.info(path).catch(() => null)) !== null;
