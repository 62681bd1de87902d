import { getPublicKeyAsync, utils } from '@noble/ed25519';
import { QxError } from '../errors.ts';
import { sealEnvelope, seedSigner } from '../format/envelope.ts';
import { parseStrict } from '../format/json.ts';
import type { Keyring, TrustedKey } from '../format/keyring.ts';
import { CHANNELS, PRODUCTS } from '../format/manifest.ts';
import { readKeyFile } from '../format/signing-key.ts';
import type { Clock, Files } from '../ports.ts';

const SEED_BYTES = 32;
/** The ancestor's server wrote keys in Go's form: the seed, then the public key. */
const GO_KEY_BYTES = 64;

/**
 * Signing on the server. It is off unless the operator names a key: whoever breaks into a server that holds a key can sign
 * releases. It signs a bare manifest once, when it is published, and never when one is asked for.
 */
export interface ReleaseSigner {
  readonly keyId: string;
  /** Base64 of 32 bytes. */
  readonly publicKey: string;
  /** Whether these bytes are a manifest without any signature around it. */
  isBare(bytes: Uint8Array): boolean;
  seal(manifest: Uint8Array): Promise<Uint8Array>;
}

/** `name` of the key; null: what its file says, as `qx-release keygen` makes it, or the name of the first servers. */
export async function createSigner(privateKey: Uint8Array, name: string | null, clock: Clock): Promise<ReleaseSigner> {
  const file = isKeyFile(privateKey) ? readKeyFile(privateKey) : null;
  const seed = file?.seed ?? (await readSeed(privateKey));
  const keyId = name ?? file?.keyId ?? FIRST_KEY_ID;
  return {
    keyId,
    publicKey: (await getPublicKeyAsync(seed)).toBase64(),
    isBare,
    seal: (manifest) => sealEnvelope(manifest, [seedSigner(keyId, seed)], new Date(clock.nowMs()).toISOString()),
  };
}

/** A JSON document, which raw bytes and base64 are not. */
const isKeyFile = (bytes: Uint8Array): boolean =>
  bytes.length > GO_KEY_BYTES && /^\s*\{/.test(new TextDecoder().decode(bytes.subarray(0, 64)));

const FIRST_KEY_ID = 'quantix-release-key-1';

function isBare(bytes: Uint8Array): boolean {
  try {
    const { members } = parseStrict(bytes);
    return members.size > 0 && !members.has('manifest') && !members.has('signature');
  } catch {
    // Let the reader of envelopes say what is wrong with it.
    return false;
  }
}

/** Raw or base64, 32 bytes of a seed or 64 of a Go key. @throws QxError KEY_UNSAFE, never saying what is in the file */
export async function readSeed(file: Uint8Array): Promise<Uint8Array> {
  const raw = file.length === SEED_BYTES || file.length === GO_KEY_BYTES ? file : decode(file);
  const seed = raw.slice(0, SEED_BYTES);
  if (raw.length === SEED_BYTES) return seed;
  const publicKey = raw.length === GO_KEY_BYTES ? await getPublicKeyAsync(seed) : null;
  if (publicKey !== null && Buffer.compare(publicKey, raw.subarray(SEED_BYTES)) === 0) return seed;
  throw new QxError(
    'KEY_UNSAFE',
    'SIGNING_PRIVATE_KEY is no Ed25519 key: a file of qx-release keygen, base64 of 32 bytes, or of 64 as Go writes them',
  );
}

function decode(file: Uint8Array): Uint8Array {
  try {
    return Uint8Array.fromBase64(new TextDecoder().decode(file).trim(), { lastChunkHandling: 'strict' });
  } catch {
    return new Uint8Array();
  }
}

/**
 * The keyring with the server's own key in it, where a development build decides what it trusts. A release build trusts
 * what was built in, and nothing that merely lies on the server.
 */
export function trusting(keyring: Keyring, signer: ReleaseSigner | null): Keyring {
  if (signer === null || keyring.kind === 'release') return keyring;
  if (keyring.keys.some((key) => key.key_id === signer.keyId || key.public_key === signer.publicKey)) return keyring;
  const own: TrustedKey = {
    key_id: signer.keyId,
    public_key: signer.publicKey,
    products: [...PRODUCTS],
    channels: [...CHANNELS],
  };
  return { ...keyring, kind: 'development', keys: [...keyring.keys, own] };
}

export interface GeneratedPaths {
  readonly privateKey: string;
  readonly publicKey: string;
}

/** A new key pair in a folder that is not served. @throws QxError REFUSED_OVERWRITE */
export async function generateKeys(files: Files, directory: string): Promise<GeneratedPaths> {
  const paths = { privateKey: `${directory}/signing-private.key`, publicKey: `${directory}/signing-public.key` };
  for (const path of Object.values(paths)) {
    if ((await files.info(path)) === null) continue;
    throw new QxError('REFUSED_OVERWRITE', `${path} is there already`, {
      next: 'move it away if it is to be replaced',
    });
  }
  const seed = utils.randomSecretKey();
  const text = (bytes: Uint8Array) => new TextEncoder().encode(`${bytes.toBase64()}\n`);
  await files.makeDirectory(directory, 0o700);
  await files.writeAtomic(paths.privateKey, text(seed), 0o600);
  await files.writeAtomic(paths.publicKey, text(await getPublicKeyAsync(seed)), 0o600);
  return paths;
}
