import { readFile } from 'node:fs/promises';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, test } from 'vitest';
import { exampleFiles } from '../../scripts/generate/examples.ts';
import { openApiFiles } from '../../scripts/generate/openapi.ts';
import { schemaFiles } from '../../scripts/generate/schemas.ts';
import { parseStrict } from '../../src/format/json.ts';
import { readManifest } from '../../src/format/manifest.ts';
import { keyringOf, sha256Of, signedManifest, testKey, trusted } from '../support/keys.ts';

/** A validator that shares no code with ours: a customer's own tools will use one such as this. */
function validatorOf(name: string) {
  const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
  for (const text of schemaFiles().values()) ajv.addSchema(JSON.parse(text));
  const validate = ajv.getSchema(`${name}.schema.json`);
  if (validate === undefined) throw new Error(`no schema ${name}`);
  return (document: unknown): boolean => validate(document) === true;
}

const strictly = (document: unknown) => parseStrict(new TextEncoder().encode(JSON.stringify(document))).value;

/** The example of the document that describes OTA updates, with the hashes and sizes of real bytes put in. */
const seedExample = () => ({
  product: 'quantix-os',
  version: '0.0.5',
  channel: 'dev',
  release_date: '2026-01-16T12:00:00Z',
  update_type: 'component',
  components: [
    {
      name: 'qx-node',
      version: '0.0.5',
      artifact: 'qx-node.tar.zst',
      sha256: sha256Of(new TextEncoder().encode('qx-node')),
      size_bytes: 5242880,
      install_path: '/data/bin/qx-node',
      restart_service: 'quantix-node',
      backup_before_update: true,
      permissions: '0755',
    },
  ],
  full_image: {
    artifact: 'system.squashfs',
    sha256: sha256Of(new TextEncoder().encode('image')),
    size_bytes: 524288000,
    requires_reboot: true,
    target_slot: 'auto',
  },
  min_version: '0.0.1',
  release_notes: 'Bug fixes and improvements',
});

test.each([...schemaFiles(), ...exampleFiles(), ...(await openApiFiles())])(
  '%s is what the source says (npm run generate)',
  async (path, text) => {
    expect(await readFile(path, 'utf8')).toBe(text);
  },
);

test.each([...exampleFiles()])('%s is accepted by our reader and by an independent one', (_path, text) => {
  const value = JSON.parse(text);
  expect(validatorOf('manifest')(value)).toBe(true);
  expect(readManifest(strictly(value))).toEqual(value);
});

test('the first manifest that was ever documented is accepted by both', () => {
  expect(validatorOf('manifest')(seedExample())).toBe(true);
  expect(readManifest(strictly(seedExample()))).toEqual(seedExample());
});

describe('what one reader refuses, so does the other', () => {
  const [component] = seedExample().components;
  test.each<[string, object]>([
    ['no product', { product: undefined }],
    ['another product', { product: 'quantix' }],
    ['a version with a leading v', { version: 'v1.0.0' }],
    ['a version that is a path', { version: '../1.0.0' }],
    ['a channel of its own', { channel: 'nightly' }],
    ['a date without a time zone', { release_date: '2026-01-16T12:00:00' }],
    ['a hash in capitals', { components: [{ ...component, sha256: 'A'.repeat(64) }] }],
    ['a short hash', { components: [{ ...component, sha256: 'abc123' }] }],
    ['an artifact elsewhere', { components: [{ ...component, artifact: '../qx-node.tar.zst' }] }],
    ['an install path that climbs', { components: [{ ...component, install_path: '/data/../etc/passwd' }] }],
    ['a size of nothing', { components: [{ ...component, size_bytes: 0 }] }],
    ['permissions in words', { components: [{ ...component, permissions: 'rwxr-xr-x' }] }],
    ['a slot that there is not', { full_image: { ...seedExample().full_image, target_slot: 'C' } }],
    ['a sequence of zero', { sequence: 0 }],
    ['components that are no list', { components: {} }],
  ])('%s', (_title, change) => {
    const document = { ...seedExample(), ...change };
    expect(validatorOf('manifest')(JSON.parse(JSON.stringify(document)))).toBe(false);
    expect(() => readManifest(strictly(document))).toThrow();
  });
});

test('a signed manifest and a keyring fit their schemas', async () => {
  const { envelope } = await signedManifest({ keys: ['first', 'second'] });
  const document = JSON.parse(new TextDecoder().decode(envelope));
  expect(validatorOf('envelope')(document)).toBe(true);
  expect(validatorOf('envelope')({ ...document, public_key: 'x' })).toBe(false);
  expect(validatorOf('envelope')({ ...document, manifest: { ...document.manifest, product: 'x' } })).toBe(false);
  const keyring = keyringOf([trusted(await testKey('first'))], { thresholds: { 'quantix-os/stable': 2 } });
  expect(validatorOf('keyring')(keyring)).toBe(true);
  expect(validatorOf('keyring')({ ...keyring, keys: [{ ...keyring.keys[0], public_key: 'short' }] })).toBe(false);
});
