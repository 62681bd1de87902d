import { type Static, Type } from 'typebox';
import { type Config, durationText, Updates } from './config.ts';
import { ChannelName } from './manifest.ts';
import { Window } from './window.ts';

/** Settings as the REST interface names them, and the keys of node.yaml that they stand for. */

const shape = Updates.properties;
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) =>
  Type.Optional(Type.Union([schema, Type.Null()], { description: 'null: what the shipped files say' }));

/** The settings that may be changed while the agent runs. Who is trusted and how the agent is reached are not among them. */
export const SettingsChange = Type.Object(
  {
    enabled: nullable(shape.enabled),
    serverUrl: nullable(shape.server_url),
    mirrors: nullable(shape.mirrors),
    channel: nullable(shape.channel),
    autoCheck: nullable(shape.auto_check),
    autoApply: nullable(shape.auto_apply),
    autoReboot: nullable(shape.auto_reboot),
    checkInterval: nullable(shape.check_interval),
    checkIntervalSecs: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 999_999, description: 'instead of checkInterval' }),
    ),
    maintenanceWindows: nullable(shape.maintenance_windows),
    healthTimeout: nullable(shape.health_timeout),
    healthAttempts: nullable(shape.health_attempts),
    storageLocation: nullable(shape.storage_location),
    volumePath: nullable(shape.volume_path),
    maxBackups: nullable(shape.max_backups),
  },
  { additionalProperties: false, minProperties: 1 },
);
export type SettingsChange = Static<typeof SettingsChange>;

/** The settings that the agent works by now. */
export const Settings = Type.Object({
  enabled: Type.Boolean(),
  serverUrl: Type.String(),
  mirrors: Type.Array(Type.String()),
  channel: ChannelName,
  autoCheck: Type.Boolean(),
  autoApply: Type.Boolean(),
  autoReboot: Type.Boolean(),
  checkInterval: Type.String({ description: 'a number and s, m, h or d' }),
  checkIntervalSecs: Type.Integer({ minimum: 1 }),
  maintenanceWindows: Type.Array(Window, { description: 'none: always open' }),
  healthTimeout: Type.String(),
  healthAttempts: Type.Integer({ minimum: 1 }),
  storageLocation: Type.Enum(['local', 'volume']),
  volumePath: Type.Union([Type.String(), Type.Null()]),
  maxBackups: Type.Integer({ minimum: 1 }),
});
export type Settings = Static<typeof Settings>;

export const settingsOf = (config: Config): Settings => ({
  enabled: config.enabled,
  serverUrl: config.serverUrl,
  mirrors: [...config.mirrors],
  channel: config.channel,
  autoCheck: config.autoCheck,
  autoApply: config.autoApply,
  autoReboot: config.autoReboot,
  checkInterval: durationText(config.checkIntervalMs),
  checkIntervalSecs: Math.round(config.checkIntervalMs / 1000),
  maintenanceWindows: [...config.windows],
  healthTimeout: durationText(config.healthTimeoutMs),
  healthAttempts: config.healthAttempts,
  storageLocation: config.storageLocation,
  volumePath: config.volumePath,
  maxBackups: config.maxBackups,
});

const KEYS = {
  enabled: 'enabled',
  serverUrl: 'server_url',
  mirrors: 'mirrors',
  channel: 'channel',
  autoCheck: 'auto_check',
  autoApply: 'auto_apply',
  autoReboot: 'auto_reboot',
  checkInterval: 'check_interval',
  maintenanceWindows: 'maintenance_windows',
  healthTimeout: 'health_timeout',
  healthAttempts: 'health_attempts',
  storageLocation: 'storage_location',
  volumePath: 'volume_path',
  maxBackups: 'max_backups',
} as const satisfies Record<keyof Omit<SettingsChange, 'checkIntervalSecs'>, keyof typeof shape>;

/** Names of settings that may be changed while the agent runs: here, and below `updates` in node.yaml. */
export const CHANGEABLE = Object.entries(KEYS) as readonly (readonly [keyof typeof KEYS, SettingsKey])[];
export type SettingsKey = (typeof KEYS)[keyof typeof KEYS];

/** The change that keys of node.yaml mean; null for one that is to go. */
export const changeOf = (values: ReadonlyMap<string, unknown>): SettingsChange =>
  Object.fromEntries(CHANGEABLE.filter(([, key]) => values.has(key)).map(([name, key]) => [name, values.get(key)]));

/** What the change means in node.yaml: keys below `updates`, null for one that is to go. */
export function keysOf({ checkIntervalSecs, ...change }: SettingsChange): ReadonlyMap<string, unknown> {
  const named = checkIntervalSecs === undefined ? change : { checkInterval: `${checkIntervalSecs}s`, ...change };
  return new Map(Object.entries(named).map(([name, value]) => [KEYS[name as keyof typeof KEYS], value]));
}
