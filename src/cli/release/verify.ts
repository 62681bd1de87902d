import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { isDatedAhead } from '../../core/dates.ts';
import { EXIT, QxError } from '../../errors.ts';
import type { SignedManifest } from '../../format/detached.ts';
import { ENVELOPE_NAME, openEnvelope } from '../../format/envelope.ts';
import type { ArtifactRef } from '../../format/manifest.ts';
import { formatBytes, table } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import { BUNDLE_SUFFIX, withBundle } from './carried.ts';
import { KEYRING_HELP, KEYRING_OPTION, loadKeyring, readDocument } from './documents.ts';
import { checkArtifacts } from './release-files.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface VerifyOptions {
  readonly keyring?: string;
  readonly artifacts?: string | true;
}

export function addVerify(commands: Command, program: ReleaseProgram): void {
  const command = commands
    .command('verify')
    .summary('say what is signed by whom, and check the files')
    .description(
      'Checks an envelope, a folder with all files, or a bundle, as a host would. Exit code 7 when anything does not fit: an expired release too.',
    )
    .argument('<source>', `${ENVELOPE_NAME}, a folder that holds it and its files, or a bundle (FILE${BUNDLE_SUFFIX})`)
    .option(KEYRING_OPTION, KEYRING_HELP)
    .option('--artifacts [dir]', 'also check hash and size of every file (default folder: that of the envelope)')
    .addHelpText(
      'after',
      examples(
        'qx-release verify build/release',
        'qx-release verify build/manifest.signed.json --artifacts',
        'qx-release verify /mnt/usb/quantix-os-1.2.0-stable.qxb',
        'qx-release verify manifest.signed.json --keyring keyring.json --json',
      ),
    );
  runs<VerifyOptions>(command, program, (output, options, args) =>
    verify(program.tools, output, options, args[0] ?? ''),
  );
}

/** What the signatures say, and of which files it is known that they are those that were signed; null where nobody looked. */
interface Verified extends SignedManifest {
  readonly checked: readonly ArtifactRef[] | null;
}

async function verified(tools: ReleaseTools, options: VerifyOptions, source: string): Promise<Verified> {
  const keyring = await loadKeyring(tools, options.keyring);
  if (source.endsWith(BUNDLE_SUFFIX)) {
    if (typeof options.artifacts === 'string') throw new QxError('USAGE', 'the files of a bundle are in the bundle');
    return withBundle(tools, source, keyring, async ({ signed, artifacts }) => ({ ...signed, checked: artifacts }));
  }
  const isFolder = (await tools.files.info(await tools.followed(source)))?.kind === 'directory';
  const envelope = isFolder ? join(source, ENVELOPE_NAME) : source;
  const signed = await openEnvelope(await readDocument(tools, envelope), keyring);
  const wanted = options.artifacts ?? isFolder;
  const folder = wanted === true ? dirname(envelope) : wanted || undefined;
  if (folder === undefined) return { ...signed, checked: null };
  return { ...signed, checked: await checkArtifacts(tools, signed.manifest, await filesIn(tools, folder)) };
}

/** Answers the exit code: what no host would install does not fit, although it is signed. */
async function verify(tools: ReleaseTools, output: Output, options: VerifyOptions, source: string): Promise<number> {
  const { manifest, keyIds, digest, checked } = await verified(tools, options, source);
  const { product, version, channel, release_date, sequence, expires_at } = manifest;
  const isExpired = expires_at !== undefined && Date.parse(expires_at) <= tools.clock.nowMs();
  if (isExpired) output.note(`expired at ${expires_at}; no host installs it any more (qx-release refresh)`);
  const isAhead = isDatedAhead(manifest, tools.clock.nowMs());
  if (isAhead) output.note(`dated ${release_date}, which lies ahead; hosts and servers with a right clock refuse it`);
  const facts = {
    product,
    version,
    channel,
    release_date,
    sequence,
    expires_at,
    is_expired: isExpired,
    is_dated_ahead: isAhead,
  };
  const artifacts = checked?.map(({ artifact, sha256, size_bytes }) => ({ artifact, sha256, size_bytes })) ?? null;
  output.result(
    { ...facts, digest, key_ids: keyIds, artifacts },
    table([
      ['release', `${product} ${version} for ${channel}`],
      ['signed by', keyIds.join(', ')],
      ['dated', release_date],
      ['sequence', String(sequence ?? 'none')],
      ['expires', expires_at ?? 'never'],
      ['digest', digest],
      ...(artifacts ?? []).map((a) => ['file ok', `${a.artifact} (${formatBytes(a.size_bytes)})`]),
    ]),
  );
  return isExpired || isAhead ? EXIT.verification : EXIT.done;
}

async function filesIn(tools: ReleaseTools, folder: string): Promise<Map<string, string>> {
  const names = await tools.files.list(await tools.followed(folder));
  return new Map(names.map((name) => [name, join(folder, name)]));
}
