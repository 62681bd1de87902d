import { basename } from 'node:path';
import { type Command, Option } from 'commander';
import { checkInstallable } from '../../core/installable.ts';
import { QxError } from '../../errors.ts';
import { parseStrict } from '../../format/json.ts';
import { type Channel, type Component, type Manifest, type Product, readManifest } from '../../format/manifest.ts';
import { instantOf, isInstant } from '../../format/schema.ts';
import type { SlotLayout } from '../../format/slot-layout.ts';
import { asDurationMs, asVersion } from '../values.ts';
import { examples, type Output, runs } from '../verb.ts';
import { type ComponentSpec, parseComponent } from './components.ts';
import { pretty } from './documents.ts';
import { imageOf } from './image.ts';
import {
  asSequence,
  buildTimeMs,
  channelOption,
  expectDated,
  expectSequence,
  productOption,
  type SequenceAhead,
  withSequenceAhead,
} from './options.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

export interface ManifestOptions extends SequenceAhead {
  readonly product: Product;
  readonly version: string;
  readonly channel: Channel;
  readonly component?: readonly string[];
  readonly image?: string;
  readonly imageLayout: SlotLayout;
  readonly sequence?: number;
  readonly expiresIn?: number;
  readonly minVersion?: string;
  readonly minRollbackVersion?: string;
  readonly compatible?: readonly string[];
  readonly releaseNotes?: string;
  readonly releaseNotesFile?: string;
  readonly releaseDate?: string;
  readonly requiresDbMigration?: boolean;
  readonly out?: string;
}

export function addManifest(commands: Command, program: ReleaseProgram): void {
  const command = withSequenceAhead(commands.command('manifest'))
    .summary('describe a release')
    .description(
      'Makes manifest.json from the files of a release. Each archive is unpacked once, as a host would do it.',
    )
    .addOption(productOption().default('quantix-os'))
    .requiredOption('--version <version>', 'version of the release', asVersion)
    .addOption(channelOption('--channel <name>', 'channel of the release').makeOptionMandatory())
    .option(
      '--component <spec...>',
      'NAME=FILE[,path=PATH][,service=NAME|none][,version=V][,needs=NAME@V]...; repeatable',
    )
    .option('--image <file>', 'full system image: a squashfs with /boot/vmlinuz and /boot/initramfs')
    .addOption(
      new Option('--image-layout <layout>', 'slots of the hosts; GRUB reads the image itself on raw ones only')
        .choices(['raw', 'filesystem'])
        .default('raw'),
    )
    .option('--sequence <n>', 'counter that only rises (default: the release date in seconds since 1970)', asSequence)
    .option(
      '--expires-in <duration>',
      'no new install later than this after the release date, such as 90d',
      asDurationMs,
    )
    .option('--min-version <version>', 'lowest installed version that may update', asVersion)
    .option('--min-rollback-version <version>', 'once installed and good, nothing older comes back', asVersion)
    .option('--compatible <name...>', 'host kinds that it is for (default: all)')
    .option('--requires-db-migration', 'the control plane has to migrate its database')
    .option('--release-notes <text>', 'what is new')
    .option('--release-notes-file <file>', 'the same, from a file')
    .option('--release-date <instant>', 'such as 2026-11-01T00:00:00Z (default: $SOURCE_DATE_EPOCH, else now)')
    .option('--out <file>', 'file to write (default: standard output)')
    .addHelpText(
      'after',
      examples(
        'qx-release manifest --version 1.2.0 --channel dev --component qx-node=build/qx-node.tar.zst --out build/manifest.json',
        'qx-release manifest --version 1.2.0 --channel beta --image build/system.squashfs --expires-in 90d',
        'qx-release manifest --product quantix-vdc --version 1.2.0 --channel dev --component controlplane=cp.tar.zst',
      ),
    );
  runs<ManifestOptions>(command, program, (output, options) => manifest(program.tools, output, options));
}

async function manifest(tools: ReleaseTools, output: Output, options: ManifestOptions): Promise<void> {
  const bytes = pretty(await buildManifest(tools, output, options));
  // What every reader would refuse is not written: the same reader looks at the same bytes first.
  const value = readManifest(parseStrict(bytes).value);
  checkInstallable(value, tools.clock.nowMs());
  if (options.out === undefined) {
    // The very bytes of the file, where `result` would make their text fit for a terminal.
    if (output.isJson) output.result({ manifest: value }, '');
    else tools.stdout.write(new TextDecoder().decode(bytes));
    return;
  }
  const path = await tools.followed(options.out);
  await tools.files.writeAtomic(path, bytes);
  output.result(
    { path, product: value.product, version: value.version, channel: value.channel },
    `${path}: ${value.product} ${value.version} for ${value.channel}\n`,
  );
}

/** Fields in the order of the schema, whatever the order of the options. */
async function buildManifest(tools: ReleaseTools, output: Output, options: ManifestOptions): Promise<Manifest> {
  const releaseDate = options.releaseDate ?? instantOf(buildTimeMs(tools.env, tools.clock.nowMs()));
  if (!isInstant(releaseDate)) throw new QxError('USAGE', '--release-date has to look like 2026-11-01T00:00:00Z');
  expectDated(tools, { release_date: releaseDate });
  const releasedMs = Date.parse(releaseDate);
  const sequence = options.sequence ?? Math.floor(releasedMs / 1000);
  expectSequence(tools, { sequence }, options);
  const specs = (options.component ?? []).map((text) => parseComponent(options.product, text));
  const components: Component[] = [];
  for (const spec of specs) components.push(await componentOf(tools, spec, options.version));
  const image =
    options.image === undefined ? undefined : await imageOf(tools, output, await hashed(tools, options.image), options);
  const notes = await releaseNotes(tools, options);
  return {
    product: options.product,
    version: options.version,
    channel: options.channel,
    release_date: releaseDate,
    update_type: image === undefined ? 'component' : 'full',
    components,
    ...(image && { full_image: image }),
    ...(options.minVersion && { min_version: options.minVersion }),
    ...(notes !== undefined && { release_notes: notes }),
    format: 1,
    sequence,
    ...(options.expiresIn && { expires_at: instantOf(releasedMs + options.expiresIn) }),
    ...(options.compatible && { compatible: [...options.compatible] }),
    ...(options.minRollbackVersion && { min_rollback_version: options.minRollbackVersion }),
    ...(options.requiresDbMigration && { requires_db_migration: true }),
  };
}

const UNPACK_LIMITS = { maxBytes: 2 ** 36, maxEntries: 200_000 };

async function componentOf(tools: ReleaseTools, spec: ComponentSpec, version: string): Promise<Component> {
  const { path, artifact, sha256, sizeBytes } = await hashed(tools, spec.file);
  const { entries, sizeBytes: unpackedBytes } = await tools.inTemporaryDirectory((folder) =>
    tools.archive.extract({ path, sha256, sizeBytes }, `${folder}/unpacked`, UNPACK_LIMITS),
  );
  const isOneFile = entries.length === 1 && entries[0]?.endsWith('/') === false;
  const { install_path, kind, ...rest } = spec.fields;
  if (kind === 'file' && !isOneFile) {
    throw new QxError('USAGE', `${spec.file} holds ${entries.length} entries, but ${spec.name} is one file`);
  }
  return {
    name: spec.name,
    version: rest.version ?? version,
    artifact,
    sha256,
    size_bytes: sizeBytes,
    install_path,
    restart_service: rest.restart_service ?? null,
    backup_before_update: rest.backup_before_update ?? true,
    permissions: rest.permissions ?? '0755',
    ...(rest.dependencies && { dependencies: rest.dependencies }),
    kind: kind ?? (isOneFile ? 'file' : 'directory'),
    unpacked_size_bytes: unpackedBytes,
  };
}

async function hashed(tools: ReleaseTools, file: string) {
  const path = await tools.followed(file);
  if ((await tools.files.info(path)) === null) throw new QxError('NOT_FOUND', `there is no file ${file}`);
  return { path, artifact: basename(file), ...(await tools.files.hash(path)) };
}

async function releaseNotes(tools: ReleaseTools, options: ManifestOptions): Promise<string | undefined> {
  if (options.releaseNotesFile === undefined) return options.releaseNotes?.normalize('NFC');
  if (options.releaseNotes !== undefined) throw new QxError('USAGE', 'either --release-notes or --release-notes-file');
  const bytes = await tools.files.read(await tools.followed(options.releaseNotesFile), 64 * 1024);
  if (bytes === null) throw new QxError('NOT_FOUND', `there is no file ${options.releaseNotesFile}`);
  return new TextDecoder().decode(bytes).trimEnd().normalize('NFC');
}
