import type { Command } from 'commander';
import { checkInstallable } from '../../core/installable.ts';
import { isCode, QxError } from '../../errors.ts';
import type { Claim } from '../../format/detached.ts';
import { Envelope, openEnvelope, type Signer, sealEnvelope } from '../../format/envelope.ts';
import { type Json, parseStrict, readJson } from '../../format/json.ts';
import type { TrustedKey } from '../../format/keyring.ts';
import { type Manifest, readManifest } from '../../format/manifest.ts';
import { checkShape, instantOf } from '../../format/schema.ts';
import { examples, type Output, runs } from '../verb.ts';
import { findKeyring, KEYRING_HELP, KEYRING_OPTION, loadKeys, manifestInside, readDocument } from './documents.ts';
import { buildTimeMs, expectDated, expectSequence, type SequenceAhead, withSequenceAhead } from './options.ts';
import { commandSigner } from './signer.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

export interface SignerOptions extends SequenceAhead {
  readonly key?: readonly string[];
  readonly signer?: string;
  readonly signerKeyId?: string;
  readonly signerPublicKey?: string;
  readonly keyring?: string;
}

export const withSigners = (command: Command): Command =>
  withSequenceAhead(command)
    .option('--key <file...>', 'private key; repeatable')
    .option('--signer <command>', 'program that reads the bytes to sign and prints the signature in base64; no shell')
    .option('--signer-key-id <id>', 'name of the key that it signs with')
    .option('--signer-public-key <base64>', 'to check what it printed (default: the key of that name in the keyring)')
    .option(KEYRING_OPTION, KEYRING_HELP);

export function addSign(commands: Command, program: ReleaseProgram): void {
  const command = withSigners(commands.command('sign'))
    .summary('sign a manifest, offline')
    .description(
      'Signs a manifest. Given an envelope, adds signatures to it, so that holders of different keys need not meet.',
    )
    .argument('<manifest>', 'manifest.json, or an envelope that others have signed')
    .option('--out <file>', 'envelope to write (default: manifest.signed.json beside it; an envelope in place)')
    .addHelpText(
      'after',
      examples(
        'qx-release sign build/manifest.json --key dev-1.private.json',
        'qx-release sign manifest.json --key alice.private.json --key bob.private.json --out manifest.signed.json',
        'qx-release sign manifest.signed.json --signer "vault-sign --slot 9c" --signer-key-id vault-1 --signer-public-key BASE64',
      ),
    );
  runs<SignerOptions & { out?: string }>(command, program, (output, options, args) =>
    sign(program.tools, output, options, args[0] ?? ''),
  );
}

async function sign(
  tools: ReleaseTools,
  output: Output,
  options: SignerOptions & { out?: string },
  source: string,
): Promise<void> {
  const { manifestBytes, earlier, isEnvelope } = readUnsealed(await readDocument(tools, source));
  const envelope = await seal(tools, output, options, manifestBytes, earlier);
  const path = await tools.followed(
    options.out ?? (isEnvelope ? source : source.replace(/(?:\.json)?$/, '.signed.json')),
  );
  await tools.files.writeAtomic(path, envelope.bytes);
  output.result({ path, key_ids: envelope.keyIds }, `${path}: signed by ${envelope.keyIds.join(', ')}\n`);
}

interface Unsealed {
  readonly manifestBytes: Uint8Array;
  /** Signatures that are there already, as signers that repeat them. */
  readonly earlier: readonly Signer[];
  readonly isEnvelope: boolean;
}

function readUnsealed(bytes: Uint8Array): Unsealed {
  const { value } = readJson(bytes, 'manifest', 'ENVELOPE_MALFORMED');
  const isEnvelope = Object.hasOwn(Object(value), 'manifest') && Object.hasOwn(Object(value), 'signature');
  if (!isEnvelope) return { manifestBytes: bytes, earlier: [], isEnvelope };
  const envelope = checkShape(Envelope, value, 'envelope', 'ENVELOPE_MALFORMED');
  const claims = [{ key_id: envelope.key_id, signature: envelope.signature }, ...(envelope.signatures ?? [])];
  return { manifestBytes: manifestInside(bytes).bytes, earlier: claims.map(repeated), isEnvelope };
}

const repeated = ({ key_id, signature }: Claim): Signer => ({
  keyId: key_id,
  sign: async () => Uint8Array.fromBase64(signature, { lastChunkHandling: 'strict' }),
});

export interface Sealed {
  readonly bytes: Uint8Array;
  readonly keyIds: readonly string[];
}

/** Signs with every key that the options name, and looks at the result as a host would. */
export async function seal(
  tools: ReleaseTools,
  output: Output,
  options: SignerOptions,
  manifestBytes: Uint8Array,
  earlier: readonly Signer[] = [],
): Promise<Sealed> {
  const release = Object(parseStrict(manifestBytes).value) as Partial<Manifest>;
  const { release_date, sequence } = release;
  checkInstallable(release, tools.clock.nowMs());
  if (typeof release_date === 'string') expectDated(tools, { release_date });
  if (typeof sequence === 'number') expectSequence(tools, { sequence }, options);
  const mine = await signersOf(tools, output, options);
  const keyIds = [...earlier, ...mine].map((signer) => signer.keyId);
  const twice = keyIds.find((id, i) => keyIds.indexOf(id) !== i);
  if (twice !== undefined) throw new QxError('USAGE', `key ${twice} would sign twice`);
  const signedAt = instantOf(buildTimeMs(tools.env, tools.clock.nowMs()));
  const signed = await Promise.all(mine.map((signer) => signedOnce(signer, manifestBytes, signedAt)));
  await checkOutsideSignature(tools, output, options, signed);
  const bytes = await sealEnvelope(manifestBytes, [...earlier, ...signed.map(({ signer }) => signer)], signedAt);
  await checkByKeyring(tools, output, options, bytes);
  return { bytes, keyIds };
}

async function signersOf(tools: ReleaseTools, output: Output, options: SignerOptions): Promise<Signer[]> {
  const signers = await loadKeys(tools, options.key ?? [], output);
  if (options.signer !== undefined) {
    if (options.signerKeyId === undefined) throw new QxError('USAGE', '--signer needs --signer-key-id');
    signers.push(commandSigner(tools, options.signer, options.signerKeyId));
  }
  if (signers.length === 0) throw new QxError('USAGE', 'who signs? give --key FILE or --signer COMMAND');
  return signers;
}

/** An envelope by this signer alone, and a signer that repeats its signature: a person touches the token once, not twice. */
async function signedOnce(signer: Signer, manifestBytes: Uint8Array, signedAt: string) {
  const alone = await sealEnvelope(manifestBytes, [signer], signedAt);
  const { value } = readJson(alone, 'envelope', 'ENVELOPE_MALFORMED');
  return { alone, signer: repeated(checkShape(Envelope, value, 'envelope', 'ENVELOPE_MALFORMED')) };
}

async function checkOutsideSignature(
  tools: ReleaseTools,
  output: Output,
  { signerKeyId, signerPublicKey, keyring: path }: SignerOptions,
  signed: readonly { alone: Uint8Array; signer: Signer }[],
): Promise<void> {
  const outside = signed.find(({ signer }) => signer.keyId === signerKeyId);
  if (outside === undefined) return;
  const known = (await findKeyring(tools, path))?.keys.find((key) => key.key_id === signerKeyId);
  const publicKey = signerPublicKey ?? known?.public_key;
  if (publicKey === undefined) {
    output.note(`warning: the signature by ${signerKeyId} was not checked; give --signer-public-key or --keyring`);
    return;
  }
  const { product, channel } = readManifest(manifestInside(outside.alone).value as Json);
  const key: TrustedKey = {
    key_id: outside.signer.keyId,
    public_key: publicKey,
    products: [product],
    channels: [channel],
  };
  await openEnvelope(outside.alone, { format: 1, epoch: 1, kind: 'development', keys: [key] });
}

/** With a keyring at hand, nothing leaves that its hosts would refuse; only further signatures may still be missing. */
async function checkByKeyring(tools: ReleaseTools, output: Output, options: SignerOptions, envelope: Uint8Array) {
  const keyring = await findKeyring(tools, options.keyring);
  if (keyring === null) return;
  try {
    await openEnvelope(envelope, keyring);
  } catch (error) {
    if (!isCode(error, 'THRESHOLD_NOT_MET')) throw error;
    output.note(`note: ${error.message}; the next signer signs this envelope`);
  }
}
