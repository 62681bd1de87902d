import { type Static, Type } from 'typebox';
import { parseDocument, visit } from 'yaml';
import { type Code, QxError } from '../errors.ts';
import { ChannelName, ProductName } from './manifest.ts';
import { checkShape, NAME_PATTERN } from './schema.ts';
import { Window } from './window.ts';

/**
 * `/etc/limiquantix/node.yaml` and its drop-ins. Later files win key by key; an unknown key is refused by its path, because a
 * misspelt `auto_reboot` must not silently mean the default.
 */

const duration = (description: string) =>
  Type.String({ pattern: '^[1-9][0-9]{0,5}(?:s|m|h|d)$', description: `${description}; a number and s, m, h or d` });
const url = Type.String({ pattern: '^https?://[^\\s/?#@]+(?:/[^\\s?#]*)?$', maxLength: 512 });
const path = Type.String({ pattern: '^/[^\\0]*$', maxLength: 512 });

export const Updates = Type.Object(
  {
    enabled: Type.Optional(Type.Boolean({ description: 'false: this host is never checked or updated' })),
    server_url: Type.Optional(url),
    mirrors: Type.Optional(Type.Array(url, { maxItems: 16, description: 'tried in order after server_url' })),
    product: Type.Optional(ProductName),
    channel: Type.Optional(ChannelName),
    compatible: Type.Optional(Type.Array(Type.String({ pattern: NAME_PATTERN }), { maxItems: 16 })),
    check_interval: Type.Optional(duration('time between two checks')),
    auto_check: Type.Optional(Type.Boolean()),
    auto_apply: Type.Optional(Type.Boolean({ description: 'install what a check finds' })),
    auto_reboot: Type.Optional(
      Type.Boolean({ description: 'reboot into an installed image when window and drain allow it' }),
    ),
    maintenance_windows: Type.Optional(Type.Array(Window, { maxItems: 16, description: 'none: always open' })),
    carries_vms: Type.Optional(
      Type.Boolean({ description: 'false: nobody has to be moved away before this host reboots' }),
    ),
    drain_timeout: Type.Optional(duration('how long the programs in drain.d may take to empty this host')),
    fleetlock_url: Type.Optional({
      ...url,
      description: 'ask this FleetLock server before a reboot; for hosts of no fleet',
    }),
    fleetlock_group: Type.Optional(Type.String({ pattern: '^[a-zA-Z0-9.-]{1,64}$' })),
    fleetlock_login: Type.Optional({ ...path, description: 'file with NAME:TOKEN for it' }),
    health_timeout: Type.Optional(duration('how long a trial boot may take to become healthy')),
    health_attempts: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 3,
        description: 'boots that may fail the health gate before the old image boots',
      }),
    ),
    slot_layout: Type.Optional(Type.Enum(['auto', 'raw', 'filesystem'])),
    slots: Type.Optional(Type.Object({ A: path, B: path }, { additionalProperties: false })),
    storage_location: Type.Optional(Type.Enum(['local', 'volume'])),
    volume_path: Type.Optional(Type.Union([path, Type.Null()])),
    staging_dir: Type.Optional(path),
    backup_dir: Type.Optional(path),
    max_backups: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
    listen: Type.Optional(Type.String({ pattern: '^(?:off|(?:[^\\s:]+|\\[[0-9a-fA-F:]+\\]):[0-9]{1,5})$' })),
    tls_cert: Type.Optional(path),
    tls_key: Type.Optional(path),
    server_ca: Type.Optional(path),
    client_ca: Type.Optional(path),
    keyring: Type.Optional(
      Type.String({ description: 'path of a keyring; only a development build reads it', pattern: '^/' }),
    ),
  },
  { additionalProperties: false },
);

/** The keys below `updates`. */
export const SETTINGS = Object.keys(Updates.properties);

const NodeFile = Type.Object({ updates: Type.Optional(Updates) }, { additionalProperties: false });

export interface ConfigSource {
  readonly path: string;
  readonly text: string;
}

export interface Config {
  /** The file that each key comes from; one that no file has stands at its default. */
  readonly origins: ReadonlyMap<string, string>;
  readonly enabled: boolean;
  /** Null: nobody wrote one. */
  readonly serverUrl: string | null;
  readonly mirrors: readonly string[];
  readonly product: Static<typeof ProductName>;
  readonly channel: Static<typeof ChannelName>;
  readonly compatible: readonly string[];
  readonly checkIntervalMs: number;
  readonly autoCheck: boolean;
  readonly autoApply: boolean;
  readonly autoReboot: boolean;
  readonly windows: readonly Window[];
  /** It may: what drain.d finds is moved away before a reboot. */
  readonly carriesVms: boolean;
  readonly drainTimeoutMs: number;
  /** Null: no other FleetLock server is asked. `login`: path of a file with NAME:TOKEN. */
  readonly fleetlock: { readonly url: string; readonly group: string; readonly login: string | null } | null;
  readonly healthTimeoutMs: number;
  readonly healthAttempts: number;
  readonly slotLayout: 'auto' | 'raw' | 'filesystem';
  readonly slots: { readonly A: string; readonly B: string };
  readonly storageLocation: 'local' | 'volume';
  readonly volumePath: string | null;
  readonly stagingDirectory: string;
  readonly backupDirectory: string;
  readonly maxBackups: number;
  /** Null: no listener on the network. */
  readonly listen: { readonly host: string; readonly port: number } | null;
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** Of the update servers, instead of the public authorities (PEM). */
  readonly serverCa: string | null;
  /** Whoever shows a client certificate of these authorities (PEM) is an administrator of this host; null: nobody is. */
  readonly clientCa: string | null;
  readonly keyring: string | null;
}

/** Files in the order in which they apply. @throws QxError CONFIG_INVALID naming the file and the key */
export function readConfig(sources: readonly ConfigSource[]): Config {
  const merged: Record<string, unknown> = {};
  const origins = new Map<string, string>();
  for (const source of sources) {
    const { updates = {} } = readFile(source);
    Object.assign(merged, updates);
    for (const key of Object.keys(updates)) origins.set(key, source.path);
  }
  return { ...resolve(checkShape(Updates, merged, 'updates', 'CONFIG_INVALID')), origins };
}

/**
 * Plain YAML 1.2, whatever the file says of itself: a map that a tag turns into something else (`!!omap`, `!!set`) would pass
 * for an empty one, and in YAML 1.1 `<<` would merge.
 */
const YAML_OPTIONS = { schema: 'core', resolveKnownTags: false, stringKeys: true, uniqueKeys: false } as const;

function readFile({ path, text }: ConfigSource): Static<typeof NodeFile> {
  return checkShape(NodeFile, plainYaml(text, path, 'CONFIG_INVALID') ?? {}, path, 'CONFIG_INVALID');
}

/** Nothing but plain values; what the library only warns of is refused as well. @throws QxError `code` */
export function plainYaml(text: string, what: string, code: Code): unknown {
  try {
    const document = parseDocument(text, YAML_OPTIONS);
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) throw problem;
    visit(document, { Map: (_, map) => refuseTwice(map.items.map(({ key }) => String(key))) });
    return document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw new QxError(code, `${what}: ${(error as Error).message.split('\n')[0]}`, { cause: error });
  }
}

/** The library's own check compares each key with each: a file of 100 KB kept the agent from starting for seconds. */
function refuseTwice(keys: readonly string[]): void {
  const seen = new Set<string>();
  for (const key of keys) {
    if (seen.has(key)) throw new Error(`keys must be unique, and ${JSON.stringify(key)} is not`);
    seen.add(key);
  }
}

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `90s`, `15m`, `1h`, `7d` in milliseconds. @throws QxError CONFIG_INVALID */
export function durationMs(text: string): number {
  const match = /^([1-9][0-9]{0,5})([smhd])$/.exec(text);
  if (match === null) throw new QxError('CONFIG_INVALID', `${text} is not a duration such as 90s, 15m, 1h or 7d`);
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
}

/** As `durationMs` reads it, in the largest unit that says it exactly. */
export function durationText(ms: number): string {
  const [unit, unitMs] = Object.entries(UNIT_MS).findLast(([, size]) => ms % size === 0) ?? ['s', UNIT_MS.s];
  return `${Math.round(ms / unitMs)}${unit}`;
}

function resolve(u: Static<typeof Updates>): Omit<Config, 'origins'> {
  return {
    enabled: u.enabled ?? true,
    serverUrl: u.server_url?.replace(/\/+$/, '') ?? null,
    mirrors: (u.mirrors ?? []).map((m) => m.replace(/\/+$/, '')),
    product: u.product ?? 'quantix-os',
    channel: u.channel ?? 'dev',
    compatible: u.compatible ?? [],
    checkIntervalMs: durationMs(u.check_interval ?? '1h'),
    autoCheck: u.auto_check ?? true,
    autoApply: u.auto_apply ?? false,
    autoReboot: u.auto_reboot ?? false,
    windows: (u.maintenance_windows ?? []).map(checkTimeZone),
    ...drainOf(u),
    healthTimeoutMs: durationMs(u.health_timeout ?? '60s'),
    healthAttempts: u.health_attempts ?? 3,
    slotLayout: u.slot_layout ?? 'auto',
    slots: u.slots ?? { A: '/dev/disk/by-partlabel/QUANTIX-A', B: '/dev/disk/by-partlabel/QUANTIX-B' },
    ...storageOf(u),
    maxBackups: u.max_backups ?? 3,
    listen: listenAddress(u.listen ?? '0.0.0.0:8443'),
    tls: tlsFiles(u),
    serverCa: u.server_ca ?? null,
    clientCa: u.client_ca ?? null,
    keyring: u.keyring ?? null,
  };
}

type Storage = Pick<Config, 'storageLocation' | 'volumePath' | 'stagingDirectory' | 'backupDirectory'>;

function storageOf({ storage_location, volume_path, staging_dir, backup_dir }: Static<typeof Updates>): Storage {
  const isVolume = storage_location === 'volume';
  if (isVolume && typeof volume_path !== 'string') {
    throw new QxError('CONFIG_INVALID', 'updates: storage_location volume needs volume_path');
  }
  const base = isVolume ? (volume_path ?? '').replace(/\/+$/, '') : '/data/updates';
  return {
    storageLocation: storage_location ?? 'local',
    volumePath: volume_path ?? null,
    stagingDirectory: staging_dir ?? `${base}/staging`,
    backupDirectory: backup_dir ?? `${base}/backup`,
  };
}

function checkTimeZone(window: Window): Window {
  try {
    new Intl.DateTimeFormat('en', { timeZone: window.timezone ?? 'UTC' });
    return window;
  } catch {
    throw new QxError('CONFIG_INVALID', `updates: maintenance_windows has no time zone called ${window.timezone}`);
  }
}

function listenAddress(text: string): Config['listen'] {
  if (text === 'off') return null;
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  if (port > 65535) throw new QxError('CONFIG_INVALID', `updates: listen has no port ${port}`);
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port };
}

function drainOf(u: Static<typeof Updates>): Pick<Config, 'carriesVms' | 'drainTimeoutMs' | 'fleetlock'> {
  const { fleetlock_url: url, fleetlock_group: group = 'default', fleetlock_login: login = null } = u;
  return {
    carriesVms: u.carries_vms ?? true,
    drainTimeoutMs: durationMs(u.drain_timeout ?? '30m'),
    fleetlock: url === undefined ? null : { url: url.replace(/\/+$/, ''), group, login },
  };
}

function tlsFiles(u: Static<typeof Updates>): Config['tls'] {
  if (u.tls_cert === undefined && u.tls_key === undefined) return null;
  if (u.tls_cert !== undefined && u.tls_key !== undefined) return { cert: u.tls_cert, key: u.tls_key };
  throw new QxError('CONFIG_INVALID', 'updates: tls_cert and tls_key go together');
}
