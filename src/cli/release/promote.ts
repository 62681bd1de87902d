import type { Command } from 'commander';
import { QxError } from '../../errors.ts';
import { ENVELOPE_NAME, openEnvelope } from '../../format/envelope.ts';
import { CHANNELS, type Channel, type Product } from '../../format/manifest.ts';
import { instantOf } from '../../format/schema.ts';
import { isVersion } from '../../format/version.ts';
import { asDurationMs } from '../values.ts';
import { examples, type Output, runs } from '../verb.ts';
import { loadKeyring, manifestInside, pretty } from './documents.ts';
import { asSequence, channelOption, productOption } from './options.ts';
import { nextSequence, refuseExpired, reissued } from './reissue.ts';
import {
  fetchEnvelope,
  fetchLatest,
  publishParts,
  publishToken,
  type ServerOptions,
  serverUrl,
  withToken,
} from './server.ts';
import { type SignerOptions, seal, withSigners } from './sign.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface PromoteOptions extends ServerOptions, SignerOptions {
  readonly to: Channel;
  readonly from?: Channel;
  readonly product: Product;
  readonly sequence?: number;
  readonly expiresIn?: number;
  readonly dryRun?: boolean;
}

export function addPromote(commands: Command, program: ReleaseProgram): void {
  const command = withSigners(withToken(commands.command('promote')))
    .summary('publish a release of one channel in another')
    .description('Signs the same files for another channel. No file is sent: the server has them already.')
    .argument('<version>', 'version on the server')
    .addOption(channelOption('--to <channel>', 'channel to publish in').makeOptionMandatory())
    .addOption(channelOption('--from <channel>', 'channel it is in (default: the one before: dev, beta, stable)'))
    .addOption(productOption().default('quantix-os'))
    .option('--sequence <n>', 'in the new channel (default: the next one, in step with the clock)', asSequence)
    .option('--expires-in <duration>', 'from now on, such as 90d (default: as it was)', asDurationMs)
    .option('--dry-run', 'fetch, check and sign, but do not publish')
    .addHelpText(
      'after',
      examples(
        'qx-release promote 1.2.0 --to beta --key beta-2026.private.json --token-file token',
        'qx-release promote 1.2.0 --from beta --to stable --expires-in 90d --key stable-2026.private.json --server https://u.example.org',
      ),
    );
  runs<PromoteOptions>(command, program, (output, options, args) =>
    promote(program.tools, output, options, args[0] ?? ''),
  );
}

/** @throws QxError USAGE where there is nothing before, or no way */
function sourceChannel({ from, to }: PromoteOptions): Channel {
  const source = from ?? CHANNELS[CHANNELS.indexOf(to) - 1];
  if (source === undefined) throw new QxError('USAGE', `no channel comes before ${to}: give --from`);
  if (source === to)
    throw new QxError('USAGE', `it is in ${to} already`, { next: 'qx-release refresh signs it again there' });
  return source;
}

async function promote(tools: ReleaseTools, output: Output, options: PromoteOptions, version: string): Promise<void> {
  if (!isVersion(version)) throw new QxError('USAGE', `${JSON.stringify(version)} is not a version such as 1.2.0`);
  const { product, to } = options;
  const from = sourceChannel(options);
  const server = serverUrl(tools, options);
  const keyring = await loadKeyring(tools, options.keyring);
  // Asked for first: a forgotten token should not cost the touch of a signing key.
  const token = options.dryRun === true ? '' : await publishToken(tools, output, options);
  const source = await fetchEnvelope(tools, server, { product, channel: from, version });
  const { manifest } = await openEnvelope(source, keyring);
  if (manifest.product !== product || manifest.version !== version || manifest.channel !== from) {
    throw new QxError(
      'WRONG_CHANNEL',
      `the server sent ${manifest.product} ${manifest.version} for ${manifest.channel} instead`,
    );
  }
  const latest = await fetchLatest(tools, server, product, to);
  const seen = latest === null ? undefined : (await openEnvelope(latest, keyring)).manifest.sequence;
  const nowMs = tools.clock.nowMs();
  const sequence = options.sequence ?? nextSequence([manifest.sequence, seen], nowMs);
  const expiresAt = options.expiresIn === undefined ? undefined : instantOf(nowMs + options.expiresIn);
  refuseExpired(expiresAt ?? manifest.expires_at, nowMs, 'give it a new expiry: --expires-in 90d');
  const next = reissued(manifestInside(source).value, { channel: to, sequence, ...(expiresAt && { expiresAt }) });
  const sealed = await seal(tools, output, options, pretty(next));
  const part = { name: 'manifest', fileName: ENVELOPE_NAME, sizeBytes: sealed.bytes.length, content: sealed.bytes };
  if (options.dryRun !== true) await publishParts(tools, output, { server, token, product }, [part]);
  const status = options.dryRun === true ? 'dry-run' : 'published';
  output.result(
    { status, product, version, from, to, sequence, key_ids: sealed.keyIds, server: server.href },
    `${product} ${version}: ${from} -> ${to}, sequence ${sequence}, signed by ${sealed.keyIds.join(', ')}${status === 'dry-run' ? ' (dry run: not published)' : ''}\n`,
  );
}
