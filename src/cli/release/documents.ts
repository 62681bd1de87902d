import { QxError } from '../../errors.ts';
import type { Signer } from '../../format/envelope.ts';
import { DOCUMENT_LIMITS, type Json, readJson } from '../../format/json.ts';
import { type Keyring, readKeyring } from '../../format/keyring.ts';
import { readSigningKey } from '../../format/signing-key.ts';
import type { Output } from '../verb.ts';
import type { ReleaseTools } from './tools.ts';

/** Reading and writing the documents that verbs take and make: manifests, envelopes, keyrings, keys. */

/** @throws QxError NOT_FOUND */
export async function readDocument(tools: ReleaseTools, path: string): Promise<Uint8Array> {
  const bytes = await tools.files.read(await tools.followed(path), DOCUMENT_LIMITS.maxBytes);
  if (bytes !== null) return bytes;
  throw new QxError('NOT_FOUND', `there is no file ${path}`);
}

export const toBytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** As every document that we make is written: two spaces, the fields in the order of the object, a final newline. */
export const pretty = (document: object): Uint8Array => toBytes(`${JSON.stringify(document, null, 2)}\n`);

export const KEYRING_OPTION = '--keyring <file>';
export const KEYRING_HELP = 'keys to trust (default: $QX_KEYRING, else the keyring this program was built with)';

/** @throws QxError KEYRING_INVALID when there is none to use */
export async function loadKeyring(tools: ReleaseTools, path: string | undefined): Promise<Keyring> {
  const keyring = await findKeyring(tools, path);
  if (keyring !== null) return keyring;
  throw new QxError('KEYRING_INVALID', 'this program was built without keys, so it trusts nobody', {
    next: 'name a keyring: --keyring FILE, or QX_KEYRING=FILE',
  });
}

/** Null when none was named and none that trusts anybody was built in. */
export async function findKeyring(tools: ReleaseTools, path: string | undefined): Promise<Keyring | null> {
  const named = path ?? (tools.env.QX_KEYRING || undefined);
  if (named !== undefined) return readKeyring(await readDocument(tools, named));
  const baked = tools.bakedKeyring();
  if (baked === null) return null;
  const keyring = readKeyring(baked);
  return keyring.keys.length === 0 ? null : keyring;
}

export async function loadKeys(tools: ReleaseTools, paths: readonly string[], output: Output): Promise<Signer[]> {
  const signers: Signer[] = [];
  for (const path of paths) {
    const info = await tools.files.info(await tools.followed(path));
    if (info !== null && (info.mode & 0o077) !== 0) {
      output.note(`warning: other users of this machine can reach ${path}; chmod 600 it`);
    }
    signers.push(readSigningKey(await readDocument(tools, path)));
  }
  return signers;
}

/** The manifest inside an envelope, without having checked who signed it. Only for what is checked right afterwards. */
export function manifestInside(envelope: Uint8Array): { bytes: Uint8Array; value: { readonly [field: string]: Json } } {
  const { value, members } = readJson(envelope, 'envelope', 'ENVELOPE_MALFORMED');
  const range = members.get('manifest');
  const inside = (value as { readonly manifest?: Json } | null)?.manifest;
  if (range === undefined || typeof inside !== 'object' || inside === null || Array.isArray(inside)) {
    throw new QxError('UNSIGNED', 'this is no signed manifest', {
      next: 'sign it: qx-release sign --key FILE manifest.json',
    });
  }
  return { bytes: envelope.subarray(...range), value: inside as { readonly [field: string]: Json } };
}
