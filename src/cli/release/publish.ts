import { type Command, Option } from 'commander';
import { QxError } from '../../errors.ts';
import type { Channel, Manifest } from '../../format/manifest.ts';
import type { UploadPart } from '../../ports.ts';
import { formatBytes, table } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import { type CheckedArtifact, checkArtifacts, ENVELOPE_NAME, readBundle } from './bundle.ts';
import { KEYRING_HELP, KEYRING_OPTION, loadKeyring } from './documents.ts';
import { asVersion, channelOption } from './options.ts';
import { refuseExpired } from './reissue.ts';
import { publishParts, publishToken, type ServerOptions, serverUrl, withToken } from './server.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface PublishOptions extends ServerOptions {
  readonly keyring?: string;
  readonly channel?: Channel;
  readonly version?: string;
  readonly component?: readonly string[];
  readonly dryRun?: boolean;
}

export function addPublish(commands: Command, program: ReleaseProgram): void {
  const command = withToken(commands.command('publish'))
    .summary('send a signed release to an update server')
    .description(
      'Publishes a signed release. Signatures and hashes are checked first; publishing the same release again changes nothing.',
    )
    .argument('<source...>', `folder that holds ${ENVELOPE_NAME} and the files it speaks of; or these files`)
    .option(KEYRING_OPTION, KEYRING_HELP)
    .addOption(channelOption('--channel <name>', 'refuse unless the release is for this channel'))
    .option('--version <version>', 'refuse unless it is this version', asVersion)
    .addOption(new Option('--component <name...>', 'refuse unless it has exactly these components'))
    .option('--dry-run', 'check everything and say what would be sent, without speaking to the server')
    .addHelpText(
      'after',
      examples(
        'QX_TOKEN=... qx-release publish build/release --server https://updates.example.org:9000',
        'qx-release publish build/release --channel beta --dry-run',
        'qx-release publish manifest.signed.json qx-node.tar.zst --token-file token --json',
        'NODE_EXTRA_CA_CERTS=ca.pem qx-release publish build --server https://updates.internal:9000   (a CA of your own)',
      ),
    );
  runs<PublishOptions>(command, program, (output, options, sources) =>
    publish(program.tools, output, options, sources),
  );
}

async function publish(
  tools: ReleaseTools,
  output: Output,
  options: PublishOptions,
  sources: readonly string[],
): Promise<void> {
  const keyring = await loadKeyring(tools, options.keyring);
  const { envelope, signed, files } = await readBundle(tools, sources, keyring);
  expectRelease(signed.manifest, options);
  refuseExpired(
    signed.manifest.expires_at,
    tools.clock.nowMs(),
    'qx-release refresh signs it again with a later expiry',
  );
  const artifacts = await checkArtifacts(tools, signed.manifest, files);
  const server = serverUrl(tools, options);
  const { product, version, channel } = signed.manifest;
  const facts = {
    product,
    version,
    channel,
    server: server.href,
    key_ids: signed.keyIds,
    artifacts: sizesOf(artifacts),
  };
  if (options.dryRun === true) {
    output.result({ status: 'dry-run', ...facts }, `${overview(facts, artifacts)}nothing was sent (dry run)\n`);
    return;
  }
  const token = await publishToken(tools, output, options);
  const parts = partsOf(signed.manifest, envelope, artifacts);
  await publishParts(tools, output, { server, token, product }, parts);
  output.result({ status: 'published', ...facts }, `${overview(facts, artifacts)}published\n`);
}

/** What the caller believes to publish; a script that got hold of another folder must not publish that. */
function expectRelease(manifest: Manifest, { channel, version, component }: PublishOptions): void {
  const refuse = (what: string) => new QxError('USAGE', `this release ${what}; nothing was sent`);
  if (channel !== undefined && channel !== manifest.channel) throw refuse(`is signed for channel ${manifest.channel}`);
  if (version !== undefined && version !== manifest.version) throw refuse(`is version ${manifest.version}`);
  const names = manifest.components.map((c) => c.name).sort();
  if (component !== undefined && [...component].sort().join() !== names.join()) {
    throw refuse(`has the components ${names.join(', ') || '(none)'}`);
  }
}

/** The envelope goes first: the server then refuses what it will not take before it has received an image. */
function partsOf(manifest: Manifest, envelope: Uint8Array, artifacts: readonly CheckedArtifact[]): UploadPart[] {
  const partName = (artifact: string): string => {
    if (manifest.full_image?.artifact === artifact) return 'full_image';
    return manifest.components.find((c) => c.artifact === artifact)?.name ?? artifact;
  };
  return [
    { name: 'manifest', fileName: ENVELOPE_NAME, sizeBytes: envelope.length, content: envelope },
    ...artifacts.map(({ artifact, path, size_bytes }) => ({
      name: partName(artifact),
      fileName: artifact,
      sizeBytes: size_bytes,
      content: { path },
    })),
  ];
}

const sizesOf = (artifacts: readonly CheckedArtifact[]) =>
  artifacts.map(({ artifact, sha256, size_bytes }) => ({ artifact, sha256, size_bytes }));

const overview = (
  facts: { product: string; version: string; channel: string; server: string; key_ids: readonly string[] },
  artifacts: readonly CheckedArtifact[],
): string =>
  table([
    ['release', `${facts.product} ${facts.version} for ${facts.channel}`],
    ['signed by', facts.key_ids.join(', ')],
    ['server', facts.server],
    ...artifacts.map((a) => ['file', `${a.artifact} (${formatBytes(a.size_bytes)})`]),
  ]);
