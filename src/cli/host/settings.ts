import { QxError } from '../../errors.ts';
import { plainYaml, Updates } from '../../format/config.ts';
import { checkShape } from '../../format/schema.ts';
import { CHANGEABLE, changeOf, NAMES, type Settings, type SettingsChange } from '../../format/settings-change.ts';
import { nearest } from '../nearest.ts';
import { table } from '../render.ts';

/** Settings as they are typed and shown: by their names in node.yaml. */

const KEYS = CHANGEABLE.map(([, key]) => key);

/** `auto_apply=true`, each value in YAML. @throws QxError USAGE */
export function changeFrom(assignments: readonly string[]): SettingsChange {
  const values = new Map<string, unknown>();
  for (const assignment of assignments) {
    const at = assignment.indexOf('=');
    if (at < 0)
      throw new QxError('USAGE', `${assignment} is no KEY=VALUE`, {
        next: 'such as qx-update config set health_attempts=2',
      });
    const key = known(assignment.slice(0, at));
    if (values.has(key)) throw new QxError('USAGE', `${key} is given twice`);
    values.set(key, settingValue(key, assignment.slice(at + 1)));
  }
  checkShape(Updates, Object.fromEntries(values), 'settings', 'USAGE');
  return changeOf(values);
}

export const changeWithout = (keys: readonly string[]): SettingsChange =>
  changeOf(new Map(keys.map((key) => [known(key), null])));

function settingValue(key: string, text: string): unknown {
  const value = plainYaml(text, `the value of ${key} is no YAML`, 'USAGE');
  if (value !== null) return value;
  throw new QxError('USAGE', `${key} has no value`, { next: `qx-update config unset ${key}` });
}

function known(key: string): string {
  if (KEYS.some((one) => one === key)) return key;
  if (Object.hasOwn(Updates.properties, key)) {
    throw new QxError('USAGE', `${key} is read at the start of the agent only`, {
      next: 'change it in /etc/limiquantix/node.yaml of the image, then rc-service quantix-node restart',
    });
  }
  const meant = nearest(key, KEYS);
  const next = meant === null ? `known are ${KEYS.join(', ')}` : `did you mean ${meant}?`;
  throw new QxError('USAGE', `there is no setting ${key}`, { next });
}

/** A line each, as `config set` takes it, with the file that it comes from. */
export const settingsText = (settings: Settings): string =>
  table(
    Object.entries(NAMES).map(([name, key]) => [
      settingText(key, settings[name as keyof typeof NAMES]),
      originOf(settings, key),
    ]),
  );

const settingText = (key: string, value: unknown): string =>
  `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`;

const originOf = ({ origins }: Settings, key: string): string => origins[key] ?? 'default';
