import { createHash } from 'node:crypto';
import { getPublicKeyAsync } from '@noble/ed25519';
import { type Signer, sealEnvelope, seedSigner } from '../../src/format/envelope.ts';
import type { Json } from '../../src/format/json.ts';
import type { Keyring, TrustedKey } from '../../src/format/keyring.ts';
import type { ArtifactRef, Component, Manifest } from '../../src/format/manifest.ts';

/** A key pair that follows from its name: the same label gives the same key in every test, and in golden vectors. */
export interface TestKey {
  readonly keyId: string;
  readonly seed: Uint8Array;
  /** Base64 of 32 bytes, as it stands in a keyring. */
  readonly publicKey: string;
  readonly signer: Signer;
}

export async function testKey(label: string): Promise<TestKey> {
  const seed = new Uint8Array(createHash('sha256').update(`quantix test key ${label}`).digest());
  const publicKey = (await getPublicKeyAsync(seed)).toBase64();
  return { keyId: label, seed, publicKey, signer: seedSigner(label, seed) };
}

/** A keyring entry; unless told otherwise the key may sign everything. */
export const trusted = (key: TestKey, limits: Partial<TrustedKey> = {}): TrustedKey => ({
  key_id: key.keyId,
  public_key: key.publicKey,
  products: ['quantix-os', 'quantix-vdc'],
  channels: ['dev', 'beta', 'stable'],
  ...limits,
});

export const keyringOf = (keys: readonly TrustedKey[], options: Partial<Keyring> = {}): Keyring => ({
  format: 1,
  epoch: 1,
  kind: 'development',
  keys: [...keys],
  ...options,
});

export const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** What a manifest says of these bytes. */
export const artifactOf = (artifact: string, bytes: Uint8Array): ArtifactRef => ({
  artifact,
  sha256: sha256Of(bytes),
  size_bytes: bytes.length,
});

export const componentOf = (name: string, content: Uint8Array, options: Partial<Component> = {}): Component => ({
  name,
  version: '1.1.0',
  ...artifactOf(`${name}.tar.zst`, content),
  install_path: `/data/bin/${name}`,
  ...options,
});

/** A release of one small component for quantix-os on channel dev, with whatever the test wants to be different. */
export const manifestOf = (overrides: Partial<Manifest> = {}): Manifest => ({
  product: 'quantix-os',
  version: '1.1.0',
  channel: 'dev',
  release_date: '2026-11-01T00:00:00Z',
  update_type: 'component',
  components: [componentOf('qx-node', new TextEncoder().encode('new bytes of qx-node'))],
  ...overrides,
});

export interface SignedRelease {
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly envelope: Uint8Array;
  /** Trusts exactly the keys that signed. */
  readonly keyring: Keyring;
}

export interface SignedManifestOptions {
  readonly manifest?: Partial<Manifest>;
  /** Unknown fields, to be signed with the rest. */
  readonly extra?: { readonly [field: string]: Json };
  /** Labels or keys; the first is the envelope's `key_id`. Default: one key called `test-key`. */
  readonly keys?: readonly (string | TestKey)[];
  readonly signedAt?: string;
}

/** A manifest, the envelope that was really signed around it, and a keyring under which it opens. */
export async function signedManifest(options: SignedManifestOptions = {}): Promise<SignedRelease> {
  const manifest = { ...manifestOf(options.manifest), ...options.extra } as Manifest;
  const manifestBytes = new TextEncoder().encode(JSON.stringify(manifest));
  const keys = await Promise.all((options.keys ?? ['test-key']).map((k) => (typeof k === 'string' ? testKey(k) : k)));
  const signers = keys.map((key) => key.signer);
  const envelope = await sealEnvelope(manifestBytes, signers, options.signedAt ?? '2026-11-01T00:00:00Z');
  return { manifest, manifestBytes, envelope, keyring: keyringOf(keys.map((key) => trusted(key))) };
}
