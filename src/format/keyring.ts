import { Point } from '@noble/ed25519';
import { type Static, Type } from 'typebox';
import { QxError } from '../errors.ts';
import { readJson } from './json.ts';
import { CHANNELS, ChannelName, PRODUCTS, ProductName } from './manifest.ts';
import { checkShape } from './schema.ts';

/**
 * The keys whose signatures count, for which products and channels. Baked into the executable when it is built; `kind` says
 * whether this is a release keyring, one for development, or none at all.
 */

export const KEY_ID_PATTERN = '^[a-z0-9][a-z0-9._-]{0,63}$';

const Key = Type.Object(
  {
    key_id: Type.String({ pattern: KEY_ID_PATTERN }),
    public_key: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$', description: 'Ed25519 public key, base64 of 32 bytes' }),
    products: Type.Array(ProductName, { minItems: 1 }),
    channels: Type.Array(ChannelName, { minItems: 1 }),
    retired: Type.Optional(
      Type.Boolean({ description: 'no longer signs anything; a back-dated signature does not revive it' }),
    ),
  },
  { additionalProperties: false },
);

export const Keyring = Type.Object(
  {
    format: Type.Literal(1),
    epoch: Type.Integer({
      minimum: 1,
      description: 'raised when keys are replaced after a loss: sequences then start anew',
    }),
    kind: Type.Enum(['release', 'development', 'none']),
    keys: Type.Array(Key, { maxItems: 256 }),
    thresholds: Type.Optional(
      Type.Record(Type.String(), Type.Integer({ minimum: 1, maximum: 16 }), {
        description: 'how many different keys must sign, by "product/channel"; default 1',
      }),
    ),
  },
  { additionalProperties: false },
);
export type Keyring = Static<typeof Keyring>;
export type TrustedKey = Static<typeof Key>;

/** @throws QxError KEYRING_INVALID | KEY_UNSAFE */
export function readKeyring(bytes: Uint8Array): Keyring {
  const { value } = readJson(bytes, 'keyring', 'KEYRING_INVALID');
  const keyring = checkShape(Keyring, value, 'keyring', 'KEYRING_INVALID');
  refuseTwice(
    keyring.keys.map((k) => k.key_id),
    'key_id',
  );
  // One key under two names would count twice towards a threshold.
  refuseTwice(
    keyring.keys.map((k) => k.public_key),
    'public key',
  );
  for (const key of keyring.keys) publicKeyBytes(key.public_key);
  checkThresholds(keyring);
  return keyring;
}

/** A misspelt name would leave its channel at one signature; a threshold above the number of keys would stop all updates. */
function checkThresholds(keyring: Keyring): void {
  const known = PRODUCTS.flatMap((product) => CHANNELS.map((channel) => ({ product, channel })));
  for (const [name, needed] of Object.entries(keyring.thresholds ?? {})) {
    const of = known.find(({ product, channel }) => name === `${product}/${channel}`);
    if (of === undefined)
      throw new QxError('KEYRING_INVALID', `keyring: threshold for ${name}, which is no product/channel`);
    const signers = keyring.keys.filter(
      (key) => key.retired !== true && key.products.includes(of.product) && key.channels.includes(of.channel),
    );
    if (signers.length >= needed) continue;
    throw new QxError(
      'KEYRING_INVALID',
      `keyring: ${name} needs ${needed} signatures, but ${signers.length} keys may sign it`,
    );
  }
}

function refuseTwice(names: readonly string[], what: string): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new QxError('KEYRING_INVALID', `keyring: ${what} ${twice} appears twice`);
}

/**
 * 32 bytes of an Ed25519 public key. Keys of small order are refused: under one of them a single signature can hold for
 * every message. @throws QxError KEY_UNSAFE
 */
export function publicKeyBytes(base64: string): Uint8Array {
  try {
    const bytes = Uint8Array.fromBase64(base64, { lastChunkHandling: 'strict' });
    const point = Point.fromBytes(bytes, false);
    if (bytes.length === 32 && !point.isSmallOrder()) return bytes;
  } catch (error) {
    throw new QxError('KEY_UNSAFE', 'not a canonical Ed25519 public key', { cause: error });
  }
  throw new QxError('KEY_UNSAFE', 'an Ed25519 public key of small order would accept forged signatures');
}

export const thresholdFor = (keyring: Keyring, product: string, channel: string): number =>
  keyring.thresholds?.[`${product}/${channel}`] ?? 1;
