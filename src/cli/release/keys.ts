import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { QxError } from '../../errors.ts';
import { KEY_ID_PATTERN, type Keyring, readKeyring, type TrustedKey } from '../../format/keyring.ts';
import { CHANNELS, type Channel, PRODUCTS, type Product } from '../../format/manifest.ts';
import { publicKeyOf, writeSigningKey } from '../../format/signing-key.ts';
import { examples, type Output, runs } from '../verb.ts';
import { pretty, readDocument } from './documents.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface KeyOptions {
  readonly keyId: string;
  readonly products: Product[];
  readonly channels: Channel[];
  readonly keyring?: string;
  readonly kind?: 'release' | 'development';
}

const withScope = (command: Command): Command =>
  command
    .addOption(new Option('--products <name...>', 'products it may sign').choices([...PRODUCTS]).default([...PRODUCTS]))
    .addOption(new Option('--channels <name...>', 'channels it may sign for').choices([...CHANNELS]).default(['dev']))
    .addOption(
      new Option('--kind <kind>', 'of a keyring that is made anew (default: release)').choices([
        'release',
        'development',
      ]),
    );

export function addKeygen(commands: Command, program: ReleaseProgram): void {
  const command = withScope(commands.command('keygen'))
    .summary('make an Ed25519 key pair')
    .description('Makes a key pair: ID.private.json (mode 0600) and ID.public.json. Never overwrites either.')
    .requiredOption('--key-id <id>', 'name of the key, such as release-2026')
    .option('--out <dir>', 'folder for the two files', '.')
    .option('--keyring <file>', 'also add the public key to this keyring, which is made when absent')
    .addHelpText(
      'after',
      examples(
        'qx-release keygen --key-id dev-1 --kind development --keyring keyring.json',
        'qx-release keygen --key-id stable-2026 --channels stable --out /media/vault --keyring keyring.json',
      ),
    );
  runs<KeyOptions & { out: string }>(command, program, (output, options) => keygen(program.tools, output, options));
}

async function keygen(tools: ReleaseTools, output: Output, options: KeyOptions & { out: string }): Promise<void> {
  checkKeyId(options.keyId);
  const folder = await tools.followed(options.out);
  const privatePath = join(folder, `${options.keyId}.private.json`);
  const publicPath = join(folder, `${options.keyId}.public.json`);
  for (const path of [privatePath, publicPath]) {
    if ((await tools.files.info(path)) !== null) {
      throw new QxError('REFUSED_OVERWRITE', `${path} is already there and stays as it is`, {
        next: 'choose another --key-id, or move it away',
      });
    }
  }
  const seed = tools.newSeed();
  const entry = entryOf(options, await publicKeyOf(seed));
  const keyring = await extendedKeyring(tools, options, entry);
  if ((await tools.files.info(folder)) === null) await tools.files.makeDirectory(folder);
  await tools.createFile(privatePath, writeSigningKey(options.keyId, seed), 0o600);
  await tools.createFile(publicPath, pretty(entry), 0o644);
  if (keyring !== null) await tools.files.writeAtomic(keyring.path, pretty(keyring.value), 0o644);
  const files = { private_key: privatePath, public_key: publicPath, ...(keyring && { keyring: keyring.path }) };
  output.result(
    { key_id: options.keyId, ...files },
    `private key: ${privatePath} (keep it secret)\npublic key:  ${publicPath}\n${keyring ? `keyring:     ${keyring.path}\n` : ''}`,
  );
}

export function addTrust(commands: Command, program: ReleaseProgram): void {
  const command = withScope(commands.command('trust'))
    .summary('add the public key of a vault or of a colleague to a keyring')
    .description('Adds a public key to a keyring. Its private half may live in a vault, a token or on another machine.')
    .argument('[entry]', 'ID.public.json as keygen made it; otherwise --key-id and --public-key')
    .option('--key-id <id>', 'name of the key')
    .option('--public-key <base64>', 'Ed25519 public key, base64 of 32 bytes')
    .requiredOption('--keyring <file>', 'keyring to extend, which is made when absent')
    .addHelpText(
      'after',
      examples(
        'qx-release trust dev-1.public.json --keyring keyring.json',
        'qx-release trust --key-id vault-1 --public-key BASE64 --channels stable --keyring keyring.json',
      ),
    );
  runs<KeyOptions & { publicKey?: string }>(command, program, async (output, options, [path]) => {
    const entry = path === undefined ? namedEntry(options) : await readEntry(program.tools, path);
    const keyring = await extendedKeyring(program.tools, options, entry);
    if (keyring === null) throw new QxError('USAGE', 'which keyring? give --keyring FILE');
    await program.tools.files.writeAtomic(keyring.path, pretty(keyring.value), 0o644);
    output.result({ key_id: entry.key_id, keyring: keyring.path }, `${keyring.path} now trusts ${entry.key_id}\n`);
  });
}

function namedEntry(options: Partial<KeyOptions> & { publicKey?: string }): TrustedKey {
  if (options.keyId === undefined || options.publicKey === undefined) {
    throw new QxError('USAGE', 'which key? give ID.public.json, or --key-id and --public-key');
  }
  checkKeyId(options.keyId);
  return entryOf({ products: [...PRODUCTS], channels: ['dev'], ...options, keyId: options.keyId }, options.publicKey);
}

/** Checked as part of the keyring that it goes into. */
async function readEntry(tools: ReleaseTools, path: string): Promise<TrustedKey> {
  const text = new TextDecoder().decode(await readDocument(tools, path));
  const [entry] = readKeyring(pretty(ringOf('release', [toJson(text, path)]))).keys;
  if (entry === undefined) throw new QxError('KEYRING_INVALID', `${path} holds no public key`);
  return entry;
}

function toJson(text: string, path: string): TrustedKey {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new QxError('KEYRING_INVALID', `${path} is not a public key file`, { cause: error });
  }
}

const entryOf = ({ keyId, products, channels }: KeyOptions, publicKey: string): TrustedKey => ({
  key_id: keyId,
  public_key: publicKey,
  products,
  channels,
});

const ringOf = (kind: 'release' | 'development', keys: TrustedKey[]): Keyring => ({ format: 1, epoch: 1, kind, keys });

function checkKeyId(keyId: string): void {
  if (new RegExp(KEY_ID_PATTERN).test(keyId)) return;
  throw new QxError(
    'USAGE',
    `a key id has small letters, digits, dots, dashes and underscores: not ${JSON.stringify(keyId)}`,
  );
}

/** The keyring with one more key, read back so that nothing is written that a reader would refuse; null without --keyring. */
async function extendedKeyring(
  tools: ReleaseTools,
  { keyring: named, kind }: Pick<KeyOptions, 'keyring' | 'kind'>,
  entry: TrustedKey,
): Promise<{ path: string; value: Keyring } | null> {
  if (named === undefined) return null;
  const path = await tools.followed(named);
  const isNew = (await tools.files.info(path)) === null;
  const before = isNew ? ringOf(kind ?? 'release', []) : readKeyring(await readDocument(tools, path));
  if (kind !== undefined && kind !== before.kind) {
    throw new QxError('USAGE', `${path} is a keyring of kind ${before.kind}, not ${kind}`);
  }
  return { path, value: readKeyring(pretty({ ...before, keys: [...before.keys, entry] })) };
}
