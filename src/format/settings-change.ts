import { type Static, Type } from 'typebox';
import { type Config, durationText, Updates } from './config.ts';
import { ChannelName, ProductName } from './manifest.ts';
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

const text = Type.String();
const textOrNull = Type.Union([Type.String(), Type.Null()]);

/** The settings that the agent works by now: every key of node.yaml, and where each of them comes from. */
export const Settings = Type.Object({
  enabled: Type.Boolean(),
  serverUrl: Type.Union([Type.String(), Type.Null()], {
    description: 'null: nobody wrote one, and what the fleet of this host is cannot be read',
  }),
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
  volumePath: textOrNull,
  maxBackups: Type.Integer({ minimum: 1 }),
  product: ProductName,
  compatible: Type.Array(Type.String()),
  carriesVms: Type.Boolean(),
  drainTimeout: text,
  fleetlockUrl: textOrNull,
  fleetlockGroup: textOrNull,
  fleetlockLogin: textOrNull,
  slotLayout: text,
  slots: Type.Object({ A: text, B: text }),
  stagingDir: text,
  backupDir: text,
  listen: Type.String({ description: 'HOST:PORT, or off' }),
  tlsCert: textOrNull,
  tlsKey: textOrNull,
  serverCa: textOrNull,
  clientCa: textOrNull,
  keyring: textOrNull,
  origins: Type.Record(Type.String(), Type.String(), {
    description: 'key of node.yaml -> the file that it comes from; one that is not here stands at its default',
  }),
});
export type Settings = Static<typeof Settings>;

/** Where releases are fetched. Null: `url`: it cannot be told; `origin`: no file says so, it is the default. */
export interface ReleaseServer {
  readonly url: string | null;
  readonly origin: string | null;
}

export const settingsOf = (config: Config, { url, origin }: ReleaseServer): Settings => ({
  enabled: config.enabled,
  serverUrl: url,
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
  ...startSettings(config),
  origins: { ...Object.fromEntries(config.origins), ...(origin === null ? {} : { server_url: origin }) },
});

/** Those that are read at the start of the agent only. */
const startSettings = ({ fleetlock, listen, tls, ...config }: Config) => ({
  product: config.product,
  compatible: [...config.compatible],
  carriesVms: config.carriesVms,
  drainTimeout: durationText(config.drainTimeoutMs),
  fleetlockUrl: fleetlock?.url ?? null,
  fleetlockGroup: fleetlock?.group ?? null,
  fleetlockLogin: fleetlock?.login ?? null,
  slotLayout: config.slotLayout,
  slots: { ...config.slots },
  stagingDir: config.stagingDirectory,
  backupDir: config.backupDirectory,
  listen: listen === null ? 'off' : `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`,
  tlsCert: tls?.cert ?? null,
  tlsKey: tls?.key ?? null,
  serverCa: config.serverCa,
  clientCa: config.clientCa,
  keyring: config.keyring,
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

/** Every key below `updates` in node.yaml, as documents name it. */
export const NAMES = {
  ...KEYS,
  product: 'product',
  compatible: 'compatible',
  carriesVms: 'carries_vms',
  drainTimeout: 'drain_timeout',
  fleetlockUrl: 'fleetlock_url',
  fleetlockGroup: 'fleetlock_group',
  fleetlockLogin: 'fleetlock_login',
  slotLayout: 'slot_layout',
  slots: 'slots',
  stagingDir: 'staging_dir',
  backupDir: 'backup_dir',
  listen: 'listen',
  tlsCert: 'tls_cert',
  tlsKey: 'tls_key',
  serverCa: 'server_ca',
  clientCa: 'client_ca',
  keyring: 'keyring',
} as const satisfies Record<keyof Omit<Settings, 'checkIntervalSecs' | 'origins'>, keyof typeof shape>;

/** The change that keys of node.yaml mean; null for one that is to go. */
export const changeOf = (values: ReadonlyMap<string, unknown>): SettingsChange =>
  Object.fromEntries(CHANGEABLE.filter(([, key]) => values.has(key)).map(([name, key]) => [name, values.get(key)]));

/** What the change means in node.yaml: keys below `updates`, null for one that is to go. */
export function keysOf({ checkIntervalSecs, ...change }: SettingsChange): ReadonlyMap<string, unknown> {
  const named = checkIntervalSecs === undefined ? change : { checkInterval: `${checkIntervalSecs}s`, ...change };
  return new Map(Object.entries(named).map(([name, value]) => [KEYS[name as keyof typeof KEYS], value]));
}
