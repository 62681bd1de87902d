import { type Command, InvalidArgumentError } from 'commander';
import { QxError } from '../../errors.ts';
import { ENVELOPE_NAME, openEnvelope } from '../../format/envelope.ts';
import type { Channel, Product } from '../../format/manifest.ts';
import { instantOf } from '../../format/schema.ts';
import { isVersion } from '../../format/version.ts';
import { asDurationMs } from '../values.ts';
import { examples, type Output, runs } from '../verb.ts';
import { loadKeyring, manifestInside, pretty, readDocument } from './documents.ts';
import { asSequence, channelOption, productOption } from './options.ts';
import { nextSequence, reissued } from './reissue.ts';
import { fetchEnvelope, publishParts, publishToken, type ServerOptions, serverUrl, withToken } from './server.ts';
import { type SignerOptions, seal, withSigners } from './sign.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface RefreshOptions extends ServerOptions, SignerOptions {
  readonly expiresIn: number;
  readonly sequence?: number;
  readonly product: Product;
  readonly channel?: Channel;
  readonly out?: string;
}

export function addRefresh(commands: Command, program: ReleaseProgram): void {
  const command = withSigners(withToken(commands.command('refresh')))
    .summary('sign the same release again with a later expiry')
    .description(
      'Re-issues a release: only its sequence and its expiry change. An envelope on disk is replaced; a version is fetched from the server and published there again.',
    )
    .argument('<release>', 'envelope file, or a version on the server', notEmpty)
    .requiredOption('--expires-in <duration>', 'from now on, such as 90d', asDurationMs)
    .option(
      '--sequence <n>',
      'has to be higher than before (default: the next one, in step with the clock)',
      asSequence,
    )
    .addOption(productOption().default('quantix-os'))
    .addOption(channelOption('--channel <name>', 'channel of the version on the server'))
    .option('--out <file>', 'envelope to write instead of the one that was read')
    .addHelpText(
      'after',
      examples(
        'qx-release refresh build/manifest.signed.json --expires-in 90d --key stable-2026.private.json',
        'qx-release refresh 1.2.0 --channel stable --expires-in 90d --key stable-2026.private.json --token-file token',
      ),
    );
  runs<RefreshOptions>(command, program, (output, options, args) =>
    refresh(program.tools, output, options, args[0] ?? ''),
  );
}

function notEmpty(text: string): string {
  if (text !== '') return text;
  throw new InvalidArgumentError('It is empty.');
}

async function refresh(tools: ReleaseTools, output: Output, options: RefreshOptions, release: string): Promise<void> {
  const isOnServer = isVersion(release);
  const { product, channel } = options;
  if (isOnServer && channel === undefined) throw new QxError('USAGE', 'which channel of the server? give --channel');
  const target = isOnServer && channel !== undefined ? { product, channel, version: release } : null;
  const before =
    target === null
      ? await readDocument(tools, release)
      : await fetchEnvelope(tools, serverUrl(tools, options), target);
  const { manifest } = await openEnvelope(before, await loadKeyring(tools, options.keyring));
  // Always from the real clock: a build date would put the new expiry into the past of a quiet channel.
  const nowMs = tools.clock.nowMs();
  const sequence = options.sequence ?? nextSequence([manifest.sequence], nowMs);
  const expiresAt = instantOf(nowMs + options.expiresIn);
  const next = reissued(manifestInside(before).value, { sequence, expiresAt });
  const sealed = await seal(tools, output, options, pretty(next));
  const facts = {
    product: manifest.product,
    version: manifest.version,
    channel: manifest.channel,
    sequence,
    expires_at: expiresAt,
  };
  const where = await store(tools, output, options, {
    release,
    isOnServer,
    bytes: sealed.bytes,
    product: manifest.product,
  });
  output.result(
    { ...facts, key_ids: sealed.keyIds, ...where },
    `${where.path ?? where.server}: ${facts.product} ${facts.version} for ${facts.channel}, sequence ${sequence}, expires ${expiresAt}\n`,
  );
}

async function store(
  tools: ReleaseTools,
  output: Output,
  options: RefreshOptions,
  {
    release,
    isOnServer,
    bytes,
    product,
  }: { release: string; isOnServer: boolean; bytes: Uint8Array; product: Product },
): Promise<{ path?: string; server?: string }> {
  if (!isOnServer || options.out !== undefined) {
    const path = await tools.followed(options.out ?? release);
    await tools.files.writeAtomic(path, bytes);
    return { path };
  }
  const server = serverUrl(tools, options);
  const token = await publishToken(tools, output, options);
  const part = { name: 'manifest', fileName: ENVELOPE_NAME, sizeBytes: bytes.length, content: bytes };
  await publishParts(tools, output, { server, token, product }, [part]);
  return { server: server.href };
}
