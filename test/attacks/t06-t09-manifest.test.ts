import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { check } from '../../src/agent/check.ts';
import { hostKeyring } from '../../src/agent/keyring.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { TestHost } from '../support/agent-host.ts';
import { memoryOf } from '../support/agent-machine.ts';
import type { Release } from '../support/agent-releases.ts';
import { codeOf, enveloped, expectUntrusted } from '../support/attacks.ts';
import { bytesOf, refusal, textOf } from '../support/documents.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { artifactOf, keyringOf, testKey, trusted } from '../support/keys.ts';
import { requires } from '../support/requires.ts';

/** What stands inside of `manifest`, and what stands around it, changed after it was signed. */

const SMALL_ORDER = [
  ['the identity', `01${'00'.repeat(31)}`],
  ['zero', '00'.repeat(32)],
  ['order 2', `ec${'ff'.repeat(30)}7f`],
  ['order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
  ['order 8, other sign', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
  ['the identity, not canonical', `ee${'ff'.repeat(30)}7f`],
] as const;

const X86 = { settings: ['compatible: [x86-64]'] };

const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

requires({ commands: IMAGE_COMMANDS })('a manifest', () => {
  const bench = agentBench();
  const made = {} as { release: Release; host: TestHost };
  beforeAll(async () => {
    const fields = {
      'qx-console': {
        dependencies: [{ name: 'host-ui', min_version: '1.0.0' }],
        permissions: '0755',
        backup_before_update: true,
        unpacked_size_bytes: 1 << 20,
      },
    };
    const image = bench.image('2.0.0');
    const manifest: Partial<Manifest> = {
      full_image: {
        ...artifactOf('system.squashfs', await readFile(image.path)),
        requires_reboot: true,
        target_slot: 'auto',
        chunks: artifactOf('chunks.bin', bytesOf('chunks')),
      },
      sequence: 7,
      expires_at: '2027-01-01T00:00:00Z',
      min_version: '0.9.0',
      min_rollback_version: '0.9.0',
      release_notes: 'notes',
      requires_db_migration: false,
      critical: ['sequence'],
      compatible: ['x86-64'],
    };
    const options = { components: { 'qx-console': '2.0.0' }, fields, image, manifest };
    made.release = await bench.release('2.0.0', options);
    // One host for all of them: it stays what it was.
    made.host = await bench.host([], X86);
  });
  const withText = (edit: (manifest: string) => string): Release => {
    const { manifest, ...rest } = JSON.parse(textOf(made.release.envelope)) as { manifest: object };
    const text = `{"manifest":${edit(JSON.stringify(manifest))},${JSON.stringify(rest).slice(1)}`;
    return { ...made.release, envelope: bytesOf(text) };
  };
  const attacked = async (release: Release, code: string) => {
    made.host.site.publish(release);
    await expectUntrusted(made.host, code);
    expect(await memoryOf(made.host.root)).toBeNull();
  };

  describe('T06 keys of small order', () => {
    test.each(SMALL_ORDER)('T06 %s: no agent starts with it, and no signature holds under it', async (_name, hex) => {
      const key = Uint8Array.fromHex(hex);
      const keyring = keyringOf([trusted(await testKey('release'), { public_key: key.toBase64() })]);
      const bytes = bytesOf(JSON.stringify(keyring));
      const { files } = made.host;
      const readsIt = { ...files, read: async () => bytes };
      expect(await refusal(() => hostKeyring(null, { keyring: '/etc/keyring.json' }, readsIt))).toBe('KEY_UNSAFE');
      expect(await refusal(() => hostKeyring(bytes, { keyring: null }, files))).toBe('KEY_UNSAFE');
      // Past the keyring's own reader: R is the key itself, S is 0.
      const signature = Uint8Array.from({ length: 64 }, (_, i) => key[i] ?? 0).toBase64();
      made.host.site.publish(enveloped(made.release, { signature }));
      await expectUntrusted({ ...made.host, keyring }, 'SIGNATURE_INVALID');
    });

    test('T06 S + L, another number for the same signature', async () => {
      const { signature } = JSON.parse(textOf(made.release.envelope)) as { signature: string };
      const bytes = Uint8Array.fromBase64(signature);
      let s = ORDER;
      for (let i = 0; i < 32; i++) s += BigInt(bytes[32 + i] ?? 0) << BigInt(8 * i);
      for (let i = 0; i < 32; i++) bytes[32 + i] = Number((s >> BigInt(8 * i)) & 0xffn);
      await attacked(enveloped(made.release, { signature: bytes.toBase64() }), 'SIGNATURE_INVALID');
    });
  });

  describe('T07 one flipped bit', () => {
    const LEAVES = [
      ...['product', 'version', 'channel', 'release_date', 'update_type', 'min_version', 'release_notes', 'sequence'],
      ...['expires_at', 'min_rollback_version', 'requires_db_migration', 'critical/0', 'compatible/0'],
      ...['name', 'version', 'artifact', 'sha256', 'size_bytes', 'install_path', 'restart_service', 'kind'].map(
        (field) => `components/0/${field}`,
      ),
      ...['permissions', 'dependencies/0/name', 'dependencies/0/min_version'].map((field) => `components/0/${field}`),
      ...['backup_before_update', 'unpacked_size_bytes'].map((field) => `components/0/${field}`),
      ...['artifact', 'sha256', 'size_bytes', 'requires_reboot', 'target_slot'].map((field) => `full_image/${field}`),
      ...['artifact', 'sha256', 'size_bytes'].map((field) => `full_image/chunks/${field}`),
    ];

    test('T07 the release has no other leaf', () => {
      expect(leavesOf(JSON.parse(JSON.stringify(made.release.manifest))).sort()).toEqual(LEAVES.toSorted());
    });

    test.each(LEAVES)('T07 in %s', async (path) => {
      const changed = withText((text) => {
        const manifest = JSON.parse(text) as Tree;
        flip(manifest, path.split('/'));
        return JSON.stringify(manifest);
      });
      expect(textOf(changed.envelope)).not.toBe(textOf(made.release.envelope));
      await attacked(changed, 'SIGNATURE_INVALID');
    });
  });

  describe('T08 written in another way', () => {
    test.each<[string, (text: string) => string]>([
      ['other spaces', (text) => JSON.stringify(JSON.parse(text), null, 3)],
      [
        'another order of keys',
        (text) => JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text)).reverse())),
      ],
      ['escapes', (text) => text.replaceAll('q', '\\u0071')],
    ])('T08 %s: the same canonical form, hence the same release', async (_name, edit) => {
      const host = await bench.host([withText(edit)], X86);
      expect(await codeOf(() => check(host, {}, { known: null }))).toBeNull();
    });

    const deep = `{"x":${'['.repeat(200)}${']'.repeat(200)},`;
    test.each<[string, (text: string) => string]>([
      ['version twice', (text) => text.replace('{', '{"version":"9.9.9",')],
      ['a nested key twice', (text) => text.replace('"name":', '"name":"x","name":')],
      ['__proto__', (text) => text.replace('{', '{"__proto__":{"polluted":"yes"},')],
      ['1.0 for 1', (text) => text.replace(/"size_bytes":(\d+)/, '"size_bytes":$1.0')],
      ['1e0 for 1', (text) => text.replace(/"size_bytes":(\d+)/, '"size_bytes":$1e0')],
      ['-0', (text) => text.replace('{', '{"zero":-0,')],
      ['2^53+1', (text) => text.replace('{', '{"large":9007199254740993,')],
      ['a lone surrogate', (text) => text.replace('"notes"', '"\\ud800"')],
      ['a name in normal form D', (text) => text.replace('"notes"', '"e\u0301"')],
      ['200 levels', (text) => text.replace('{', deep)],
      ['2 MB', (text) => text.replace('{', `{"fill":"${'x'.repeat(2_000_000)}",`)],
    ])('T08 %s', async (_name, edit) => {
      // The server in memory heeds no limit: this is the reader's own.
      await attacked(withText(edit), 'ENVELOPE_MALFORMED');
      expect(({} as { polluted?: string }).polluted).toBeUndefined();
    });

    test.each<[string, (text: string) => string]>([
      ['a byte order mark', (text) => `\ufeff${text}`],
      ['bytes after the end', (text) => `${text}{}`],
      ['duplicate keys at the top', (text) => text.replace('{', '{"algorithm":"ed25519",')],
    ])('T08 the envelope with %s', async (_name, edit) => {
      await attacked({ ...made.release, envelope: bytesOf(edit(textOf(made.release.envelope))) }, 'ENVELOPE_MALFORMED');
    });
  });

  describe('T09 what stands outside of it', () => {
    test.each(['1970-01-01T00:00:00Z', '2099-12-31T23:59:59Z'])(
      'T09 signed_at moved to %s changes no decision: neither what is taken nor what has expired',
      async (signed_at) => {
        const host = await bench.host([enveloped(made.release, { signed_at })], X86);
        expect(await codeOf(() => check(host, {}, { known: null }))).toBeNull();
        host.clock.advance(365 * 86_400_000);
        expect(await codeOf(() => check(host, {}, { known: null }))).toBe('EXPIRED');
      },
    );

    test.each(['version', 'channel', 'sequence', 'expires_at'])('T09 a copy of %s in the envelope', async (field) =>
      attacked(enveloped(made.release, { [field]: 'dev' }), 'ENVELOPE_MALFORMED'),
    );
  });
});

type Tree = { [key: string]: Tree | string | number | boolean };

function leavesOf(node: unknown, path = ''): string[] {
  if (typeof node !== 'object' || node === null) return [path];
  return Object.entries(node).flatMap(([key, value]) => leavesOf(value, path === '' ? key : `${path}/${key}`));
}

/** The lowest bit of the last character or digit; of a truth value the value. */
const flipped = (value: string | number | boolean): string | number | boolean => {
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'number') return value ^ 1;
  return value.slice(0, -1) + String.fromCharCode(value.charCodeAt(value.length - 1) ^ 1);
};

function flip(tree: Tree, [key = '', ...rest]: readonly string[]): void {
  const value = tree[key] ?? '';
  if (typeof value === 'object') flip(value, rest);
  else tree[key] = flipped(value);
}
