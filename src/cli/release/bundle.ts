import { join } from 'node:path';
import type { Command } from 'commander';
import { checkInstallable } from '../../core/installable.ts';
import { ENVELOPE_NAME } from '../../format/envelope.ts';
import type { Manifest } from '../../format/manifest.ts';
import { formatBytes, table } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import { BUNDLE_SUFFIX } from './carried.ts';
import { KEYRING_HELP, KEYRING_OPTION, loadKeyring } from './documents.ts';
import {
  checkArtifacts,
  type Expectations,
  expectRelease,
  readReleaseFiles,
  SOURCES_HELP,
  withExpectations,
} from './release-files.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface BundleOptions extends Expectations {
  readonly keyring?: string;
  readonly out?: string;
}

export function addBundle(commands: Command, program: ReleaseProgram): void {
  const command = withExpectations(commands.command('bundle'))
    .summary('put a signed release into one file, for hosts without a network')
    .description(
      'Makes an offline bundle: one file (a tar) with the signed manifest and all that it speaks of. Hosts trust it no more and no less than a server.',
    )
    .argument('<source...>', SOURCES_HELP)
    .option(KEYRING_OPTION, KEYRING_HELP)
    .option(
      '--out <path>',
      `file to write, or folder to write it in (default: PRODUCT-VERSION-CHANNEL${BUNDLE_SUFFIX})`,
    )
    .addHelpText(
      'after',
      examples(
        'qx-release bundle build/release --out /mnt/usb',
        'qx-release bundle build/release --channel stable --keyring keyring.json --json',
        'qx-release bundle manifest.signed.json qx-node.tar.zst --out qx-node.qxb',
        'qx-update install /mnt/usb/quantix-os-1.2.0-stable.qxb   (on the host)',
      ),
    );
  runs<BundleOptions>(command, program, (output, options, sources) => bundle(program.tools, output, options, sources));
}

async function bundle(
  tools: ReleaseTools,
  output: Output,
  options: BundleOptions,
  sources: readonly string[],
): Promise<void> {
  const keyring = await loadKeyring(tools, options.keyring);
  const { envelope, signed, files } = await readReleaseFiles(tools, sources, keyring);
  const { manifest, keyIds } = signed;
  expectRelease(manifest, options, 'nothing was written');
  checkInstallable(manifest, tools.clock.nowMs());
  const artifacts = await checkArtifacts(tools, manifest, files);
  const path = await targetOf(tools, manifest, options.out);
  const members = [
    { name: ENVELOPE_NAME, sizeBytes: envelope.length, content: envelope },
    ...artifacts.map(({ artifact, sha256, size_bytes, path }) => ({
      name: artifact,
      sizeBytes: size_bytes,
      sha256,
      content: { path },
    })),
  ];
  const onBytes = (done: number, total: number) => output.progress.report({ label: 'bundle', done, total });
  const written = await tools.bundles.write(path, members, onBytes);
  output.progress.end();
  const { product, version, channel, sequence, expires_at } = manifest;
  const status = written.isNew ? 'written' : 'unchanged';
  output.result(
    {
      ...{ status, path, product, version, channel, sequence, expires_at, key_ids: keyIds },
      ...{ sha256: written.sha256, size_bytes: written.sizeBytes },
      artifacts: artifacts.map(({ artifact, sha256, size_bytes }) => ({ artifact, sha256, size_bytes })),
    },
    table([
      ['release', `${product} ${version} for ${channel}`],
      ['signed by', keyIds.join(', ')],
      ['expires', expires_at ?? 'never'],
      ...artifacts.map((a) => ['file', `${a.artifact} (${formatBytes(a.size_bytes)})`]),
      ['bundle', `${path} (${formatBytes(written.sizeBytes)})${written.isNew ? '' : ', as it was'}`],
      ['sha256', written.sha256],
    ]),
  );
}

async function targetOf(tools: ReleaseTools, manifest: Manifest, out = '.'): Promise<string> {
  const path = await tools.followed(out);
  const { product, version, channel } = manifest;
  const isFolder = (await tools.files.info(path))?.kind === 'directory';
  return isFolder ? join(path, `${product}-${version}-${channel}${BUNDLE_SUFFIX}`) : path;
}
