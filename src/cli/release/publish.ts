import type { Command } from 'commander';
import { checkInstallable } from '../../core/installable.ts';
import type { SignedManifest } from '../../format/detached.ts';
import { ENVELOPE_NAME } from '../../format/envelope.ts';
import type { ArtifactRef, Manifest } from '../../format/manifest.ts';
import type { UploadPart } from '../../ports/upload.ts';
import { formatBytes, table } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import { BUNDLE_SUFFIX, withBundle } from './carried.ts';
import { KEYRING_HELP, KEYRING_OPTION, loadKeyring } from './documents.ts';
import { expectSequence, type SequenceAhead, withSequenceAhead } from './options.ts';
import {
  checkArtifacts,
  type Expectations,
  expectRelease,
  readReleaseFiles,
  SOURCES_HELP,
  withExpectations,
} from './release-files.ts';
import { publishParts, publishToken, type ServerOptions, serverUrl, withToken } from './server.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface PublishOptions extends ServerOptions, Expectations, SequenceAhead {
  readonly keyring?: string;
  readonly dryRun?: boolean;
}

export function addPublish(commands: Command, program: ReleaseProgram): void {
  const command = withSequenceAhead(withExpectations(withToken(commands.command('publish'))))
    .summary('send a signed release to an update server')
    .description(
      'Publishes a signed release. Signatures and hashes are checked first; publishing the same release again changes nothing.',
    )
    .argument('<source...>', `${SOURCES_HELP}; or a bundle (FILE${BUNDLE_SUFFIX})`)
    .option(KEYRING_OPTION, KEYRING_HELP)
    .option('--dry-run', 'check everything and say what would be sent, without speaking to the server')
    .addHelpText(
      'after',
      examples(
        'QX_TOKEN=... qx-release publish build/release --server https://updates.example.org:9000',
        'qx-release publish build/release --channel beta --dry-run',
        'qx-release publish /mnt/usb/quantix-os-1.2.0-stable.qxb --server http://updates.site:9000',
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
  const [source = ''] = sources;
  if (sources.length === 1 && source.endsWith(BUNDLE_SUFFIX)) {
    return withBundle(tools, source, keyring, ({ envelope, signed, artifacts }) => {
      checkWanted(tools, signed.manifest, options);
      const parts = artifacts.map(({ read, ...ref }) => ({ ...ref, content: { read } }));
      return send(tools, output, options, { envelope, signed, artifacts: parts });
    });
  }
  const { envelope, signed, files } = await readReleaseFiles(tools, sources, keyring);
  checkWanted(tools, signed.manifest, options);
  const artifacts = await checkArtifacts(tools, signed.manifest, files);
  const parts = artifacts.map(({ path, ...ref }) => ({ ...ref, content: { path } }));
  return send(tools, output, options, { envelope, signed, artifacts: parts });
}

function checkWanted(tools: ReleaseTools, manifest: Manifest, options: PublishOptions): void {
  expectRelease(manifest, options, 'nothing was sent');
  expectSequence(tools, manifest, options);
  checkInstallable(manifest, tools.clock.nowMs());
}

interface Sent {
  readonly envelope: Uint8Array;
  readonly signed: SignedManifest;
  readonly artifacts: readonly SentArtifact[];
}

interface SentArtifact extends ArtifactRef {
  readonly content: UploadPart['content'];
}

async function send(
  tools: ReleaseTools,
  output: Output,
  options: PublishOptions,
  { envelope, signed, artifacts }: Sent,
): Promise<void> {
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

function partsOf(manifest: Manifest, envelope: Uint8Array, artifacts: readonly SentArtifact[]): UploadPart[] {
  const partName = (artifact: string): string => {
    if (manifest.full_image?.artifact === artifact) return 'full_image';
    return manifest.components.find((c) => c.artifact === artifact)?.name ?? artifact;
  };
  return [
    { name: 'manifest', fileName: ENVELOPE_NAME, sizeBytes: envelope.length, content: envelope },
    ...artifacts.map(({ artifact, content, size_bytes }) => ({
      name: partName(artifact),
      fileName: artifact,
      sizeBytes: size_bytes,
      content,
    })),
  ];
}

const sizesOf = (artifacts: readonly SentArtifact[]) =>
  artifacts.map(({ artifact, sha256, size_bytes }) => ({ artifact, sha256, size_bytes }));

const overview = (
  facts: { product: string; version: string; channel: string; server: string; key_ids: readonly string[] },
  artifacts: readonly SentArtifact[],
): string =>
  table([
    ['release', `${facts.product} ${facts.version} for ${facts.channel}`],
    ['signed by', facts.key_ids.join(', ')],
    ['server', facts.server],
    ...artifacts.map((a) => ['file', `${a.artifact} (${formatBytes(a.size_bytes)})`]),
  ]);
