import { isMap, parseDocument } from 'yaml';
import { QxError } from '../errors.ts';
import { type Config, type ConfigSource, readConfig } from '../format/config.ts';
import { keysOf, type SettingsChange } from '../format/settings-change.ts';
import type { Files } from '../ports.ts';

/** Where a host keeps its settings. /etc forgets at a reboot, so what changes while it runs is kept elsewhere and wins. */
const SHIPPED = '/etc/limiquantix/node.yaml';
const DROP_INS = '/etc/limiquantix/node.d';
const CHANGED = '/quantix/limiquantix/node.yaml';
const MAX_BYTES = 1 << 20;

/** @throws QxError CONFIG_INVALID naming the file and the key */
export const loadConfig = async (files: Files): Promise<Config> => readConfig(await sourcesOf(files));

async function sourcesOf(files: Files): Promise<ConfigSource[]> {
  const dropIns = (await files.list(DROP_INS)).filter((name) => name.endsWith('.yaml') && !name.startsWith('.'));
  const paths = [SHIPPED, ...dropIns.map((name) => `${DROP_INS}/${name}`), CHANGED];
  const sources = await Promise.all(paths.map((path) => readSource(files, path)));
  return sources.filter((source) => source !== null);
}

/** One file instead of them all. @throws QxError CONFIG_INVALID */
export async function loadConfigFile(files: Files, path: string): Promise<Config> {
  const source = await readSource(files, path);
  if (source === null) throw new QxError('CONFIG_INVALID', `${path}: there is no such file`);
  return readConfig([source]);
}

async function readSource(files: Files, path: string): Promise<ConfigSource | null> {
  const bytes = await files.read(path, MAX_BYTES);
  if (bytes === null) return null;
  try {
    return { path, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `${path}: not UTF-8 text`, { cause: error });
  }
}

const LOCK = '/run/quantix/settings.lock';

/**
 * Changes settings so that they outlive a reboot, and answers what is in force from now on. What the file says besides, comments
 * included, stays. Nothing is written unless the host would start with it. @throws QxError CONFIG_INVALID | BUSY
 */
export async function changeSettings(files: Files, change: SettingsChange): Promise<Config> {
  const unlock = await files.lock(LOCK);
  if (unlock === null) throw new QxError('BUSY', 'somebody else is changing the settings', { next: 'try again' });
  try {
    const sources = await sourcesOf(files);
    // What cannot be read now is for a person to mend: a change on top of it could mean anything.
    readConfig(sources);
    const text = changed(sources.find(({ path }) => path === CHANGED)?.text ?? HEADER, change);
    const config = readConfig([...sources.filter(({ path }) => path !== CHANGED), { path: CHANGED, text }]);
    await files.makeDirectory(CHANGED.slice(0, CHANGED.lastIndexOf('/')), 0o700);
    await files.writeAtomic(CHANGED, new TextEncoder().encode(text), 0o600);
    return config;
  } finally {
    await unlock();
  }
}

const HEADER =
  '# Settings that were changed while the agent ran. Those of /etc/limiquantix count where nothing is said here.\n';

function changed(text: string, change: SettingsChange): string {
  const document = parseDocument(text);
  if (!isMap(document.get('updates'))) document.set('updates', document.createNode({}));
  for (const [key, value] of keysOf(change)) {
    if (value === null) document.deleteIn(['updates', key]);
    else document.setIn(['updates', key], document.createNode(value));
  }
  return document.toString();
}

/** A change as the audit log takes it. */
export const settingFields = (change: SettingsChange): Record<string, string> =>
  Object.fromEntries(Object.entries(change).map(([name, value]) => [name, JSON.stringify(value)]));
