import { QxError } from '../errors.ts';
import { type Config, type ConfigSource, readConfig } from '../format/config.ts';
import type { Files } from '../ports.ts';

/** Where a host keeps its settings. /etc forgets at a reboot, so what changes while it runs is kept elsewhere and wins. */
const SHIPPED = '/etc/limiquantix/node.yaml';
const DROP_INS = '/etc/limiquantix/node.d';
const CHANGED = '/quantix/limiquantix/node.yaml';
const MAX_BYTES = 1 << 20;

/** @throws QxError CONFIG_INVALID naming the file and the key */
export async function loadConfig(files: Files): Promise<Config> {
  const dropIns = (await files.list(DROP_INS)).filter((name) => name.endsWith('.yaml') && !name.startsWith('.'));
  const paths = [SHIPPED, ...dropIns.map((name) => `${DROP_INS}/${name}`), CHANGED];
  const sources = await Promise.all(paths.map((path) => readSource(files, path)));
  return readConfig(sources.filter((source) => source !== null));
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
