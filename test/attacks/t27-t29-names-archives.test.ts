import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { install } from '../../src/agent/install.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { TestHost } from '../support/agent-host.ts';
import { memorySite, type Release } from '../support/agent-releases.ts';
import { agentSocket } from '../support/agent-socket.ts';
import { zst } from '../support/archive-yard.ts';
import {
  codeOf,
  EVIL_NAMES,
  enveloped,
  expectGivenUp,
  expectRefusal,
  expectUntrusted,
  memoryGrowth,
  resigned,
} from '../support/attacks.ts';
import { releaseOf } from '../support/hostile-site.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { END, type Lie, member, pax, tar } from '../support/tar-maker.ts';

/** Names and archives that somebody signed, and that no host may follow to where they lead. */

requires({ commands: IMAGE_COMMANDS })('a host that is given', () => {
  const bench = agentBench();
  const made = {} as { release: Release; host: TestHost };
  beforeAll(async () => {
    made.release = await bench.release('2.0.0', { components: { 'qx-console': '2.0.0' } });
    made.host = await bench.host();
  });

  describe('T27 names', () => {
    test.each(EVIL_NAMES)('T27 %j in a manifest', async (name) => {
      const [component] = made.release.manifest.components;
      const fields = [
        { components: [{ ...component, artifact: name }] },
        { version: name },
        // Of these no file is named: a component may be called CON, and a product is only compared.
        ...(name === 'CON' ? [] : [{ product: name }, { components: [{ ...component, name }] }]),
      ];
      for (const changed of fields) {
        made.host.site.publish(await resigned(made.release, changed));
        await expectUntrusted(made.host, 'MANIFEST_INVALID');
      }
    });

    test.each(EVIL_NAMES.filter((name) => name !== 'CON'))(
      'T27 %j in an order over the REST interface',
      async (name) => {
        const { ask } = await agentSocket(made.host);
        for (const body of [{ version: name }, { components: [name] }]) {
          const asked = async () => ({ kind: 'refusal', code: (await ask('POST', 'apply', body)).json.code });
          const event = await expectRefusal(made.host, 'BAD_REQUEST', asked);
          expect(event).toMatchObject({ event: 'request_refused', actor: 'root on the socket' });
        }
      },
    );

    const evil = 'x\n{"seq":9}\u001b[31m\u202e';
    test.each<[string, () => Promise<Release>, string]>([
      ['product', () => resigned(made.release, { product: evil }), 'MANIFEST_INVALID'],
      ['version', () => resigned(made.release, { version: evil }), 'MANIFEST_INVALID'],
      ['key_id', async () => enveloped(made.release, { key_id: evil }), 'ENVELOPE_MALFORMED'],
      ['field that nobody knows', async () => enveloped(made.release, { [evil]: 1 }), 'ENVELOPE_MALFORMED'],
    ])(
      'T43 a %s with line feeds and terminal codes stays in one line of the log, and is harmless there',
      async (_what, release, code) => {
        made.host.site.publish(await release());
        const event = await expectRefusal(made.host, code, () => install(made.host, {}, {}));
        expect(JSON.stringify(event)).not.toMatch(/\\n|\\u001b|\u202e/);
      },
    );
  });

  const good: Lie = { name: 'qx-console', body: 'good', mode: 0o755 };
  const attacked = async (archive: Uint8Array, code: string, fields: object = {}) => {
    made.host.site.publish(await releaseOf(bench, archive, fields));
    await expectGivenUp(made.host, code);
  };

  describe('T28 archive entries', () => {
    const link: Lie = { name: 'link', type: '2', link: '../../etc' };
    const negative = Buffer.alloc(12, 0xff);
    const cases: readonly [string, string, readonly (Lie | Buffer)[]][] = [
      ['../x', 'ARCHIVE_UNSAFE', [{ name: '../x', body: 'x' }]],
      ['/abs', 'ARCHIVE_UNSAFE', [{ name: '/etc/passwd', body: 'x' }]],
      ['a symlink, then a file through it', 'ARCHIVE_UNSAFE', [link, { name: 'link/passwd', body: 'x' }]],
      ['a hard link to /etc/shadow', 'ARCHIVE_UNSAFE', [{ name: 'hard', type: '1', link: '/etc/shadow' }]],
      ['a hard link to a symlink', 'ARCHIVE_UNSAFE', [good, { name: 'hard', type: '1', link: 'link' }, link]],
      [
        'a folder that was a symlink',
        'ARCHIVE_UNSAFE',
        [
          { name: 'd/', type: '5' },
          { ...link, name: 'd' },
        ],
      ],
      ['a device', 'ARCHIVE_UNSAFE', [{ name: 'sda', type: '4' }]],
      ['a fifo', 'ARCHIVE_UNSAFE', [{ name: 'pipe', type: '6' }]],
      ['a PAX path', 'ARCHIVE_UNSAFE', [pax({ path: '../x' }), good]],
      ['a PAX linkpath', 'ARCHIVE_UNSAFE', [pax({ linkpath: '../x' }), good]],
      [
        'a PAX size that hides a file',
        'ARCHIVE_MALFORMED',
        [pax({ size: '0' }), { name: 'a', body: member({ name: '../x', body: 'x' }) }],
      ],
      ['a negative size', 'ARCHIVE_MALFORMED', [{ ...good, size: negative }]],
      ['a NUL in PAX', 'ARCHIVE_UNSAFE', [pax({ path: 'a\0/../../x' }), good]],
      ['folders 4096 deep', 'ARCHIVE_UNSAFE', [pax({ path: 'd/'.repeat(4096) }), { name: 'd', type: '5' }]],
      ['names that differ in case', 'ARCHIVE_UNSAFE', [good, { name: 'QX-CONSOLE', body: 'x' }]],
      ['names that differ in their Unicode form', 'ARCHIVE_UNSAFE', [{ name: 'ﬁle' }, { name: 'file' }]],
      ['a second archive behind the first', 'ARCHIVE_MALFORMED', [tar(good), { name: '../x', body: 'x' }]],
      ['an entry after the end marker', 'ARCHIVE_MALFORMED', [good, END, { name: 'late', body: 'x' }]],
      ['two files for a component that is one', 'ARCHIVE_UNSAFE', [good, { name: 'second', body: 'x' }]],
    ];

    test.each(cases)('T28 %s', async (_name, code, parts) => attacked(zst(tar(...parts)), code));

    // Of folders, since each file would be flushed. That files count as well: archive.test.ts.
    test('T28 10^6 entries', async () => {
      const frames = Array.from({ length: 20 }, (_, i) => zst(numbered(50_000 * i, 50_000)));
      await attacked(Buffer.concat([...frames, zst(END)]), 'ARCHIVE_TOO_LARGE');
    });

    test('T28 setuid, in the archive and in the manifest, does not come out', async () => {
      const archive = zst(tar({ ...good, mode: 0o6755 }));
      const host = await bench.host([await releaseOf(bench, archive, { permissions: '4755' })]);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      expect((await stat(join(host.root, 'data/bin/qx-console'))).mode & 0o7777).toBe(0o755);
    });
  });

  describe('T29 what decompresses to more, or to something else, than was signed', () => {
    const frame = zst(tar(good));
    const empty = zst(Buffer.alloc(0));
    const skippable = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.alloc(4)]);

    test('T29 a bomb of 16 KB for half a gigabyte stops at what was signed, and so does the memory', async () => {
      const head = member({ name: 'bomb', size: 512 << 20 }).subarray(0, 512);
      const bomb = zst(Buffer.concat([head, Buffer.alloc(512 << 20)]));
      expect(bomb.length).toBeLessThan(20_000);
      const unpack = () => attacked(bomb, 'ARCHIVE_TOO_LARGE', { unpacked_size_bytes: 64 << 20 });
      expect(await memoryGrowth(unpack)).toBeLessThan(256 << 20);
    });

    test.each<[string, Uint8Array, string]>([
      ['a window of 2 GiB', hugeWindow(tar(good)), 'ARCHIVE_TOO_LARGE'],
      ['10^5 empty frames', Buffer.concat(Array(100_000).fill(empty)), 'ARCHIVE_MALFORMED'],
      ['trailing garbage', Buffer.concat([frame, Buffer.from('garbage')]), 'ARCHIVE_MALFORMED'],
      ['a truncated frame', frame.subarray(0, -1), 'ARCHIVE_MALFORMED'],
      ['an archive in an archive', zst(frame), 'ARCHIVE_MALFORMED'],
    ])('T29 %s', async (_name, archive, code) => attacked(archive, code));

    test.each([
      ['10^5 empty frames in front', Buffer.concat([...Array(100_000).fill(empty), frame])],
      ['a skippable frame behind', Buffer.concat([frame, skippable])],
    ])('T29 %s: signed bytes that say nothing', async (_name, archive) => {
      const host = await bench.host([], { site: memorySite(await releaseOf(bench, archive)) });
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
    });
  });
});

/** So many empty folders, which are called f0000042 and so on. */
function numbered(first: number, count: number): Buffer {
  const [one, zeros] = [member({ name: 'f0000000', type: '5' }), Buffer.from('0000000')];
  const sumOf = (bytes: Buffer): number => bytes.reduce((total, byte) => total + byte, 0);
  const sum = Number.parseInt(one.toString('latin1', 148, 154), 8) - sumOf(zeros);
  const entries = Buffer.alloc(count * one.length, one);
  for (let i = 0; i < count; i++) {
    const digits = Buffer.from(String(first + i).padStart(zeros.length, '0'));
    digits.copy(entries, i * one.length + 1);
    entries.write((sum + sumOf(digits)).toString(8).padStart(6, '0'), i * one.length + 148, 'latin1');
  }
  return entries;
}

/** One raw block in a frame whose header asks for a window of 2^31 bytes. */
function hugeWindow(content: Buffer): Uint8Array {
  const block = Buffer.alloc(3);
  block.writeUIntLE((content.length << 3) | 1, 0, 3);
  return Buffer.concat([Buffer.from('28b52ffd00a8', 'hex'), block, content]);
}
