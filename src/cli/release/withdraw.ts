import type { Command } from 'commander';
import { QxError } from '../../errors.ts';
import type { Channel, Product } from '../../format/manifest.ts';
import { SERVER_ROUTES } from '../../format/routes.ts';
import { isVersion } from '../../format/version.ts';
import { readAnswer, send } from '../exchange.ts';
import { refusalOf } from '../refusal.ts';
import { examples, type Output, runs } from '../verb.ts';
import { channelOption, productOption } from './options.ts';
import { publishToken, type ServerOptions, serverUrl, withToken } from './server.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface WithdrawOptions extends ServerOptions {
  readonly channel: Channel;
  readonly product: Product;
}

export function addWithdraw(commands: Command, program: ReleaseProgram): void {
  const command = withToken(commands.command('withdraw'))
    .summary('take a release off the server again')
    .description(
      `Takes a release, or what cannot be read as one, out of a channel, with its files. No host is offered it any more; what is installed
stays. The one before it is the newest then: a host that has seen this one takes it only with a higher sequence, which qx-release
refresh gives it, and one that has installed this one goes back by qx-update rollback.`,
    )
    .argument('<version>', 'version on the server')
    .addOption(channelOption('--channel <channel>', 'channel that it is in').makeOptionMandatory())
    .addOption(productOption().default('quantix-os'))
    .addHelpText(
      'after',
      examples(
        'qx-release withdraw 1.2.0 --channel dev --token-file token',
        'qx-release withdraw 1.2.0 --channel stable --server https://u.example.org && qx-release refresh --channel stable --key stable-2026.private.json --server https://u.example.org',
      ),
    );
  runs<WithdrawOptions>(command, program, (output, options, args) =>
    withdraw(program.tools, output, options, args[0] ?? ''),
  );
}

const TIMEOUT_MS = 60_000;

async function withdraw(tools: ReleaseTools, output: Output, options: WithdrawOptions, version: string): Promise<void> {
  if (!isVersion(version)) throw new QxError('USAGE', `${JSON.stringify(version)} is not a version such as 1.2.0`);
  const { product, channel } = options;
  const url = serverUrl(tools, options);
  const token = await publishToken(tools, output, options);
  const asked = { params: { product, version }, query: { channel }, signal: AbortSignal.timeout(TIMEOUT_MS) };
  const answered = send({ url, token }, SERVER_ROUTES.deleteRelease, asked).then(async (response) => ({
    status: response.statusCode ?? 0,
    bytes: await readAnswer(response),
  }));
  const { status, bytes } = await answered.catch((error: unknown) => {
    if (error instanceof QxError) throw error;
    throw new QxError('SERVER_UNREACHABLE', `${url.origin} cannot be reached: ${(error as Error).message}`, {
      next: 'see whether the server runs, and give its address by --server',
      cause: error,
    });
  });
  if (status !== 200) throw refusalOf(status, bytes, url.host);
  output.result(
    { status: 'withdrawn', product, version, channel, server: url.href },
    `${product} ${version} is in ${channel} no more\n`,
  );
}
