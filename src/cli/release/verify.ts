import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { openEnvelope } from '../../format/envelope.ts';
import { formatBytes, table } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import { checkArtifacts } from './bundle.ts';
import { KEYRING_HELP, KEYRING_OPTION, loadKeyring, readDocument } from './documents.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface VerifyOptions {
  readonly keyring?: string;
  readonly artifacts?: string | true;
}

export function addVerify(commands: Command, program: ReleaseProgram): void {
  const command = commands
    .command('verify')
    .summary('say what is signed by whom, and check the files')
    .description('Checks an envelope as a host would. Exit code 7 when anything does not fit.')
    .argument('<envelope>', 'manifest.signed.json')
    .option(KEYRING_OPTION, KEYRING_HELP)
    .option('--artifacts [dir]', 'also check hash and size of every file (default folder: that of the envelope)')
    .addHelpText(
      'after',
      examples(
        'qx-release verify build/manifest.signed.json --artifacts',
        'qx-release verify manifest.signed.json --keyring keyring.json --json',
      ),
    );
  runs<VerifyOptions>(command, program, (output, options, args) =>
    verify(program.tools, output, options, args[0] ?? ''),
  );
}

async function verify(tools: ReleaseTools, output: Output, options: VerifyOptions, source: string): Promise<void> {
  const keyring = await loadKeyring(tools, options.keyring);
  const { manifest, keyIds, digest } = await openEnvelope(await readDocument(tools, source), keyring);
  const folder = options.artifacts === true ? dirname(source) : options.artifacts;
  const artifacts = folder === undefined ? null : await checkArtifacts(tools, manifest, await filesIn(tools, folder));
  const { product, version, channel, release_date, sequence, expires_at } = manifest;
  const isExpired = expires_at !== undefined && Date.parse(expires_at) <= tools.clock.nowMs();
  if (isExpired) output.note(`warning: expired at ${expires_at}; no host installs it any more (qx-release refresh)`);
  const facts = { product, version, channel, release_date, sequence, expires_at, is_expired: isExpired };
  const checked = artifacts?.map(({ artifact, sha256, size_bytes }) => ({ artifact, sha256, size_bytes })) ?? null;
  output.result(
    { ...facts, digest, key_ids: keyIds, artifacts: checked },
    table([
      ['release', `${product} ${version} for ${channel}`],
      ['signed by', keyIds.join(', ')],
      ['dated', release_date],
      ['sequence', String(sequence ?? 'none')],
      ['expires', expires_at ?? 'never'],
      ['digest', digest],
      ...(checked ?? []).map((a) => ['file ok', `${a.artifact} (${formatBytes(a.size_bytes)})`]),
    ]),
  );
}

async function filesIn(tools: ReleaseTools, folder: string): Promise<Map<string, string>> {
  const names = await tools.files.list(await tools.followed(folder));
  return new Map(names.map((name) => [name, join(folder, name)]));
}
