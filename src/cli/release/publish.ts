import type { Command } from 'commander';
import { ENVELOPE_NAME } from '../../format/envelope.ts';
import type { Manifest } from '../../format/manifest.ts';
import type { UploadPart } from '../../ports.ts';
import { formatBytes, table } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import { KEYRING_HELP, KEYRING_OPTION, loadKeyring } from './documents.ts';
import { refuseExpired } from './reissue.ts';
import {
  type CheckedArtifact,
  checkArtifacts,
  type Expectations,
  expectRelease,
  readReleaseFiles,
  SOURCES_HELP,
  withExpectations,
} from './release-files.ts';
import { publishParts, publishToken, type ServerOptions, serverUrl, withToken } from './server.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface PublishOptions extends ServerOptions, Expectations {
  readonly keyring?: string;
  readonly dryRun?: boolean;
}

export function addPublish(commands: Command, program: ReleaseProgram): void {
  const command = withExpectations(withToken(commands.command('publish')))
    .summary('send a signed release to an update server')
    .description(
      'Publishes a signed release. Signatures and hashes are checked first; publishing the same release again changes nothing.',
    )
    .argument('<source...>', SOURCES_HELP)
    .option(KEYRING_OPTION, KEYRING_HELP)
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
  const { envelope, signed, files } = await readReleaseFiles(tools, sources, keyring);
  expectRelease(signed.manifest, options, 'nothing was sent');
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
