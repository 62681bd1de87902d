import { describe, expect, test } from 'vitest';
import { openEnvelope } from '../../src/format/envelope.ts';
import type { Json } from '../../src/format/json.ts';
import { artifactsOf, readManifest } from '../../src/format/manifest.ts';
import { cpuWatch } from '../support/cpu.ts';
import { bytesOf, refusal, textOf } from '../support/documents.ts';
import { componentOf, manifestOf, signedManifest } from '../support/keys.ts';

const read = (fields: { readonly [field: string]: unknown }) =>
  refusal(() => readManifest({ ...manifestOf(), ...fields } as unknown as Json));
const withComponent = (fields: { readonly [field: string]: unknown }) =>
  read({ components: [{ ...componentOf('qx-node', bytesOf('x')), ...fields }] });
const image = { artifact: 'system.squashfs', sha256: 'a'.repeat(64), size_bytes: 1, requires_reboot: true };

type Path = readonly (string | number)[];

/** Every leaf of a document, empty lists and objects included. */
function leaves(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  const below = Object.entries(value).flatMap(([key, item]) => leaves(item, [...path, key]));
  return below.length === 0 ? [path] : below;
}

/** Other values for a leaf: each string with one bit flipped in each of its characters, each number with each low bit flipped. */
function flips(leaf: unknown): unknown[] {
  if (typeof leaf === 'boolean') return [!leaf];
  if (typeof leaf === 'number') return [leaf ^ 1, leaf ^ 2, leaf ^ 64];
  if (typeof leaf !== 'string') return ['something'];
  const flip = (i: number) => leaf.slice(0, i) + String.fromCharCode(leaf.charCodeAt(i) ^ 1) + leaf.slice(i + 1);
  return [...Array.from(leaf, (_, i) => flip(i)), `${leaf}x`];
}

type Node = { [key: string | number]: Node };

function replaced(document: unknown, path: Path, value: unknown): unknown {
  const copy = structuredClone(document) as Node;
  const parent = path.slice(0, -1).reduce<Node>((node, key) => node[key] as Node, copy);
  parent[path.at(-1) as string] = value as Node;
  return copy;
}

const fullManifest = manifestOf({
  update_type: 'full',
  full_image: {
    ...image,
    target_slot: 'auto',
    chunks: { artifact: 'chunks.bin', sha256: 'b'.repeat(64), size_bytes: 3 },
  },
  components: [
    componentOf('qx-node', bytesOf('x'), {
      restart_service: 'quantix-node',
      permissions: '0755',
      backup_before_update: true,
      dependencies: [{ name: 'qx-console', min_version: '1.0.0' }],
      kind: 'file',
      unpacked_size_bytes: 5,
    }),
    componentOf('qx-console', bytesOf('y'), { restart_service: null }),
  ],
  min_version: '1.0.0',
  min_rollback_version: '0.9.0',
  release_notes: 'notes',
  sequence: 7,
  expires_at: '2027-01-01T00:00:00Z',
  compatible: ['x86-64'],
  requires_db_migration: false,
  critical: ['sequence'],
});

describe('T07 one leaf of the manifest changed after it was signed', async () => {
  const { envelope, keyring } = await signedManifest({
    manifest: fullManifest,
    extra: { format: 1, unknown: { deep: [true] } },
  });
  const document = JSON.parse(textOf(envelope)) as { manifest: unknown };
  const paths = leaves(document.manifest);

  test('the example has every field', () => {
    expect(paths.length).toBeGreaterThan(40);
  });

  test.each(paths.map((path) => [path.join('/'), path] as const))('%s', async (_name, path) => {
    const leaf = path.reduce<Node>((node, key) => node[key] as Node, document.manifest as Node);
    for (const other of flips(leaf)) {
      const changed = { ...document, manifest: replaced(document.manifest, path, other) };
      expect(await refusal(() => openEnvelope(bytesOf(JSON.stringify(changed)), keyring))).toBe('SIGNATURE_INVALID');
    }
  });

  test('a field added, a field taken away', async () => {
    const { manifest } = document as { manifest: { [name: string]: unknown } };
    const { sequence, ...without } = manifest;
    expect(sequence).toBe(7);
    for (const changed of [without, { ...manifest, added: 1 }]) {
      const bytes = bytesOf(JSON.stringify({ ...document, manifest: changed }));
      expect(await refusal(() => openEnvelope(bytes, keyring))).toBe('SIGNATURE_INVALID');
    }
  });
});

const evilNames = [
  '',
  '.',
  '..',
  '../x',
  'a/../b',
  '/abs',
  'a/b',
  'a\\b',
  'a%2f..%2f',
  '%2e%2e',
  'a\0b',
  'a\0',
  '-rf',
  '.hidden',
  'a\nb',
  'a\n',
  ' a',
  'a b',
  'a\u202eb',
  'a\u200bb',
  '\u0430bc',
  'a'.repeat(256),
  '~root',
  '$HOME',
  '`id`',
  'a;b',
  'a:b',
  'a?b',
  'a#b',
  '*',
  '|',
  '__proto__',
];

describe('T27 names that are not plain names', () => {
  test.each(evilNames)('%j', async (name) => {
    expect(await read({ product: name })).toBe('MANIFEST_INVALID');
    expect(await read({ channel: name })).toBe('MANIFEST_INVALID');
    expect(await read({ version: name })).toBe('MANIFEST_INVALID');
    expect(await withComponent({ name })).toBe('MANIFEST_INVALID');
    expect(await withComponent({ artifact: name })).toBe('MANIFEST_INVALID');
    expect(await withComponent({ version: name })).toBe('MANIFEST_INVALID');
    expect(await withComponent({ restart_service: name })).toBe('MANIFEST_INVALID');
    expect(await withComponent({ dependencies: [{ name, min_version: '1.0.0' }] })).toBe('MANIFEST_INVALID');
    expect(await read({ full_image: { ...image, artifact: name } })).toBe('MANIFEST_INVALID');
    expect(await read({ compatible: [name] })).toBe('MANIFEST_INVALID');
  });

  test.each([
    'CON',
    'con',
    'con.tar.zst',
    'nul.tar',
    'LPT1',
    'manifest.json',
    'manifest.signed.json',
    'Manifest.Json',
    'MANIFEST.SIGNED.JSON',
  ])('an artifact called %s', async (artifact) => {
    expect(await withComponent({ artifact })).toBe('MANIFEST_INVALID');
    expect(await read({ full_image: { ...image, artifact } })).toBe('MANIFEST_INVALID');
  });

  test.each([
    '',
    'data/bin/x',
    '/',
    '//etc',
    '/data//x',
    '/data/../etc/passwd',
    '/data/./x',
    '/data/.ssh',
    '/data/x y',
    '/data/\0',
    '/data/x\n',
    '\\data',
    `/data/${'a'.repeat(300)}`,
  ])('install_path %j', async (install_path) => {
    expect(await withComponent({ install_path })).toBe('MANIFEST_INVALID');
  });
});

describe('T24 hashes that are not SHA-256 in lower-case hex', () => {
  test.each<[string, unknown]>([
    ['upper case', 'A'.repeat(64)],
    ['63 characters', 'a'.repeat(63)],
    ['65 characters', 'a'.repeat(65)],
    ['md5', 'd41d8cd98f00b204e9800998ecf8427e'],
    ['sha1', 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
    ['named', `sha256:${'a'.repeat(64)}`],
    ['a line break at the end', `${'a'.repeat(64)}\n`],
    ['null', null],
    ['a list', ['a'.repeat(64)]],
    ['missing', undefined],
  ])('%s', async (_title, sha256) => {
    const component = JSON.parse(JSON.stringify({ ...componentOf('qx-node', bytesOf('x')), sha256 })) as Json;
    expect(await read({ components: [component] })).toBe('MANIFEST_INVALID');
    expect(await read({ full_image: { ...image, sha256 } })).toBe('MANIFEST_INVALID');
  });

  test('another algorithm beside it is not what decides', async () => {
    expect(await withComponent({ sha512: 'wrong', md5: 'wrong' })).toBeNull();
  });
});

describe('T26 a manifest cannot say where its artifacts are', () => {
  test.each([
    'http://evil.example/x',
    'https://evil.example/x',
    '//evil.example/x',
    '\\\\evil\\x',
    'http:x',
    'user@evil.example',
    '[::ffff:127.0.0.1]',
    'file:///etc/shadow',
  ])('an artifact called %s is refused', async (artifact) => {
    expect(await withComponent({ artifact })).toBe('MANIFEST_INVALID');
  });
});

describe('what else a manifest must be', () => {
  test('the example is', async () => {
    expect(await refusal(() => readManifest(fullManifest as unknown as Json))).toBeNull();
    expect(artifactsOf(fullManifest).map((a) => a.artifact)).toEqual([
      'qx-node.tar.zst',
      'qx-console.tar.zst',
      'system.squashfs',
      'chunks.bin',
    ]);
  });

  const twice = (fields: object) => {
    const first = componentOf('one', bytesOf('1'));
    return { components: [first, { ...componentOf('two', bytesOf('2')), ...fields }] };
  };

  test.each<[string, { readonly [field: string]: unknown }, string]>([
    [
      'it needs what this reader does not understand',
      { critical: ['sequence', 'quorum'] },
      'MANIFEST_CRITICAL_UNKNOWN',
    ],
    ['it needs what every object has', { critical: ['constructor'] }, 'MANIFEST_CRITICAL_UNKNOWN'],
    ['it says it is another kind of document', { _type: 'targets' }, 'MANIFEST_INVALID'],
    ['it contains nothing', { components: [] }, 'MANIFEST_INVALID'],
    ['a full update without an image', { update_type: 'full' }, 'MANIFEST_INVALID'],
    ['one component twice', twice({ name: 'one' }), 'MANIFEST_INVALID'],
    ['one artifact twice', twice({ artifact: 'one.tar.zst' }), 'MANIFEST_INVALID'],
    ['artifacts that differ only in case', twice({ artifact: 'ONE.tar.zst' }), 'MANIFEST_INVALID'],
    ['one install_path twice', twice({ install_path: '/data/bin/one/' }), 'MANIFEST_INVALID'],
    ['one component inside another', twice({ install_path: '/data/bin/one/inside' }), 'MANIFEST_INVALID'],
    ['another format', { format: 2 }, 'MANIFEST_INVALID'],
    ['sequence 0', { sequence: 0 }, 'MANIFEST_INVALID'],
    ['a sequence in a string', { sequence: '7' }, 'MANIFEST_INVALID'],
    ['31 February', { release_date: '2026-02-31T00:00:00Z' }, 'MANIFEST_INVALID'],
    ['a date without a zone', { release_date: '2026-02-01T00:00:00' }, 'MANIFEST_INVALID'],
    ['a date in another zone', { release_date: '2026-02-01T00:00:00+02:00' }, 'MANIFEST_INVALID'],
    ["24 o'clock", { expires_at: '2026-02-01T24:00:00Z' }, 'MANIFEST_INVALID'],
    ['a day only', { expires_at: '2026-02-01' }, 'MANIFEST_INVALID'],
    ['compatible with nothing', { compatible: [] }, 'MANIFEST_INVALID'],
    ['a number of 20 digits in a version', { version: '9999999999999999999.0.0' }, 'MANIFEST_INVALID'],
    ['no product', { product: undefined }, 'MANIFEST_INVALID'],
  ])('%s', async (_title, fields, code) => {
    expect(await refusal(() => readManifest(JSON.parse(JSON.stringify({ ...manifestOf(), ...fields })) as Json))).toBe(
      code,
    );
  });

  test.each([0, -1, 1.5, 2 ** 43 + 1, '5', null])('size_bytes %j', async (size_bytes) => {
    expect(await withComponent({ size_bytes })).toBe('MANIFEST_INVALID');
  });

  test.each(['999', '7', '07777', '0o755', '-755', ''])('permissions %j', async (permissions) => {
    expect(await withComponent({ permissions })).toBe('MANIFEST_INVALID');
  });

  test('neighbours whose names begin alike are not inside each other', async () => {
    expect(await read(twice({ install_path: '/data/bin/one-more' }))).toBeNull();
  });

  test('unknown fields are kept and ignored', () => {
    const manifest = readManifest({ ...manifestOf(), colour: 'blue' } as unknown as Json);
    expect(manifest).toHaveProperty('colour', 'blue');
  });
});

test('a string of a million characters where a short one belongs is refused quickly', async () => {
  const long = ['1'.repeat(900_000), '/a'.repeat(400_000), `1.1.1-${'1a.'.repeat(300_000)}`, 'a'.repeat(900_000)];
  for (const text of long) {
    for (const field of ['version', 'release_date', 'product', 'min_version']) {
      const tookMs = cpuWatch();
      expect(await read({ [field]: text })).toBe('MANIFEST_INVALID');
      expect(tookMs()).toBeLessThan(10_000);
    }
  }
});
