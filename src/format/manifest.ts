import { type Static, Type } from 'typebox';
import { QxError } from '../errors.ts';
import type { Json } from './json.ts';
import { checkShape, INSTANT_PATTERN, isInstant, NAME_PATTERN, SHA256_PATTERN } from './schema.ts';
import { checkVersion, VERSION_MAX_LENGTH, VERSION_PATTERN } from './version.ts';

/**
 * The release manifest: what a release consists of and for whom it is. Everything that decides anything about an update is
 * in here, because this is what is signed. `schema/manifest.schema.json` is generated from this file.
 */

export const PRODUCTS = ['quantix-os', 'quantix-vdc'] as const;
export const CHANNELS = ['dev', 'beta', 'stable'] as const;
export type Product = (typeof PRODUCTS)[number];
export type Channel = (typeof CHANNELS)[number];

const literals = <const T extends readonly string[]>(values: T) => Type.Enum<[...T]>([...values]);
const version = (description: string) =>
  Type.String({ pattern: VERSION_PATTERN, maxLength: VERSION_MAX_LENGTH, description });
const sha256 = Type.String({ pattern: SHA256_PATTERN, description: 'SHA-256 of the artifact, lower-case hex' });
const instant = (description: string) => Type.String({ pattern: INSTANT_PATTERN, maxLength: 40, description });
const sizeBytes = Type.Integer({ minimum: 1, maximum: 2 ** 43, description: 'exact size of the artifact' });
export const ARTIFACT_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$';
const artifact = Type.String({
  pattern: ARTIFACT_PATTERN,
  description: 'file name of the artifact within the release',
});

export const ProductName = literals(PRODUCTS);
export const ChannelName = literals(CHANNELS);

const Dependency = Type.Object({
  name: Type.String({ pattern: NAME_PATTERN }),
  min_version: version('lowest version of that component which this one works with'),
});

export const Component = Type.Object({
  name: Type.String({ pattern: NAME_PATTERN }),
  version: version('version of this component'),
  artifact,
  sha256,
  size_bytes: sizeBytes,
  install_path: Type.String({ pattern: '^(?:/[A-Za-z0-9][A-Za-z0-9._+-]*)+/?$', maxLength: 256 }),
  restart_service: Type.Optional(Type.Union([Type.String({ pattern: NAME_PATTERN }), Type.Null()])),
  backup_before_update: Type.Optional(Type.Boolean({ description: 'default true' })),
  permissions: Type.Optional(Type.String({ pattern: '^[0-7]{3,4}$', description: 'octal; default 0755' })),
  dependencies: Type.Optional(Type.Array(Dependency, { maxItems: 64 })),
  kind: Type.Optional(
    Type.Enum(['file', 'directory'], {
      description: 'what install_path becomes; without it, an archive of one top-level file is a file',
    }),
  ),
  unpacked_size_bytes: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 2 ** 43,
      description: 'sum of the file sizes in the archive: the extraction limit',
    }),
  ),
});

export const FullImage = Type.Object({
  artifact,
  sha256,
  size_bytes: sizeBytes,
  requires_reboot: Type.Boolean(),
  target_slot: Type.Optional(
    Type.Enum(['auto', 'A', 'B'], { description: 'default auto: the slot that is not running' }),
  ),
  chunks: Type.Optional(Type.Object({ artifact, sha256, size_bytes: sizeBytes })),
});

export const Manifest = Type.Object({
  product: ProductName,
  version: version('version of the release'),
  channel: ChannelName,
  release_date: instant('when the release was made'),
  update_type: Type.Enum(['component', 'full']),
  components: Type.Array(Component, { maxItems: 256 }),
  full_image: Type.Optional(FullImage),
  min_version: Type.Optional(version('lowest installed version that may update to this one')),
  release_notes: Type.Optional(Type.String({ maxLength: 65536 })),
  format: Type.Optional(Type.Literal(1)),
  sequence: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })),
  expires_at: Type.Optional(instant('no new install after this instant')),
  compatible: Type.Optional(
    Type.Array(Type.String({ pattern: NAME_PATTERN }), {
      minItems: 1,
      maxItems: 64,
      description: 'hardware or host kinds',
    }),
  ),
  min_rollback_version: Type.Optional(
    version('once this release is good, nothing older is installed or rolled back to'),
  ),
  requires_db_migration: Type.Optional(Type.Boolean()),
  critical: Type.Optional(
    Type.Array(Type.String({ maxLength: 64 }), {
      maxItems: 32,
      description: 'fields that a reader must understand or refuse',
    }),
  ),
});

export type Manifest = Static<typeof Manifest>;
export type Component = Static<typeof Component>;
export type FullImage = Static<typeof FullImage>;

const KNOWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(Manifest.properties));
// `manifest` is a path of the server next to the artifacts; the others are its own files, or no files at all on some systems.
const RESERVED_FILE_NAMES = /^(?:manifest(?:(?:\.signed)?\.json)?|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?)$/i;

/**
 * A manifest from already parsed JSON. Unknown fields are kept and ignored, unless `critical` names them.
 * @throws QxError MANIFEST_INVALID | MANIFEST_CRITICAL_UNKNOWN | VERSION_INVALID
 */
export function readManifest(value: Json): Manifest {
  const manifest = checkShape(Manifest, value, 'manifest', 'MANIFEST_INVALID');
  const unknown = (manifest.critical ?? []).filter((field) => !KNOWN_FIELDS.has(field));
  if (unknown.length > 0) {
    throw new QxError('MANIFEST_CRITICAL_UNKNOWN', `manifest needs a reader that understands ${unknown.join(', ')}`, {
      next: 'update qx-node first, by a release that does not use these fields',
    });
  }
  // Another document format that is signed with the same key must never pass for a manifest.
  if (Object.hasOwn(manifest, '_type')) invalid('it has a _type field, which belongs to another kind of document');
  versionsOf(manifest).forEach(checkVersion);
  for (const at of [manifest.release_date, manifest.expires_at]) {
    if (at !== undefined && !isInstant(at)) invalid(`${at} is not a date`);
  }
  checkNames(manifest);
  if (manifest.update_type === 'full' && manifest.full_image === undefined)
    invalid('update_type full needs full_image');
  if (manifest.components.length === 0 && manifest.full_image === undefined) invalid('it contains nothing to install');
  return manifest;
}

function checkNames(manifest: Manifest): void {
  once(
    manifest.components.map((c) => c.name),
    'component',
  );
  checkPlaces(manifest.components.map((c) => c.install_path.replace(/\/$/, '')));
  const artifacts = artifactsOf(manifest);
  once(
    artifacts.map((a) => a.artifact.toLowerCase()),
    'artifact',
  );
  for (const { artifact } of artifacts) {
    if (RESERVED_FILE_NAMES.test(artifact)) invalid(`an artifact cannot be called ${artifact}`);
  }
}

/** No component inside another: swapping or undoing the outer one would take the inner one with it. */
function checkPlaces(paths: readonly string[]): void {
  once(paths, 'install_path');
  const inner = paths.find((path) => paths.some((outer) => path.startsWith(`${outer}/`)));
  if (inner !== undefined) invalid(`install_path ${inner} lies inside another component`);
}

function once(names: readonly string[], what: string): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) invalid(`${what} ${twice} appears twice`);
}

function invalid(reason: string): never {
  throw new QxError('MANIFEST_INVALID', `manifest: ${reason}`);
}

const versionsOf = (m: Manifest): string[] =>
  [m.version, m.min_version, m.min_rollback_version, ...m.components.flatMap(componentVersions)].filter(
    (v) => v !== undefined,
  );

const componentVersions = (c: Component): string[] => [c.version, ...(c.dependencies ?? []).map((d) => d.min_version)];

export interface ArtifactRef {
  readonly artifact: string;
  readonly sha256: string;
  readonly size_bytes: number;
}

/** Every file that the release consists of, components first, in the manifest's order. */
export function artifactsOf(manifest: Manifest): ArtifactRef[] {
  const image = manifest.full_image;
  return [...manifest.components, ...(image === undefined ? [] : [image]), ...(image?.chunks ? [image.chunks] : [])];
}
