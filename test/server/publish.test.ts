import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Manifest } from '../../src/format/manifest.ts';
import { latestRelease, listReleases, readRelease } from '../../src/server/artifacts.ts';
import { type Publisher, publish } from '../../src/server/publish.ts';
import { createSigner, trusting } from '../../src/server/signing.ts';
import { hostClock } from '../../src/system/clock.ts';
import { hostProcess } from '../../src/system/process.ts';
import { EVIL_NAMES, signedAnyway } from '../support/attacks.ts';
import { manifestOf } from '../support/keys.ts';
import {
  CONSOLE_BYTES,
  encode,
  FULL_CONTENT,
  IMAGE_BYTES,
  NODE_BYTES,
  partsOf,
  publisherAt,
  releaseKeys,
  type Sent,
  signedBy,
  snapshot,
  wholeRelease,
} from '../support/publishing.ts';
import { temporaryFolder } from '../support/temp.ts';

const keys = await releaseKeys();
let directory: string;
let publisher: Publisher;

beforeEach(async () => {
  directory = join(await temporaryFolder(), 'releases');
  publisher = publisherAt(directory, keys.keyring);
});

const send = (sent: Sent, product: 'quantix-os' | 'quantix-vdc' = 'quantix-os') =>
  publish(publisher, product, partsOf(sent));

/** Refused by this code, and not one file or folder is other than before. */
async function expectRefused(code: string, sent: Sent): Promise<void> {
  await send([['manifest', await signedBy(keys.os, { version: '0.9.0' })], ...wholeRelease(new Uint8Array()).slice(1)]);
  const before = await snapshot(directory);
  await expect(send(sent)).rejects.toMatchObject({ code });
  expect(await snapshot(directory)).toEqual(before);
}

describe('a release that is published', () => {
  test('lies in the layout of the seeds, the envelope byte for byte', async () => {
    const envelope = await signedBy(keys.os);
    const published = await send(wholeRelease(envelope));
    expect(published).toEqual({
      status: 'published',
      product: 'quantix-os',
      version: '1.1.0',
      channel: 'dev',
      artifacts: ['qx-node.tar.zst', 'qx-console.tar.zst', 'system.squashfs'],
    });
    const folder = join(directory, 'quantix-os/dev/1.1.0');
    expect(new Uint8Array(await readFile(join(folder, 'manifest.signed.json')))).toEqual(envelope);
    expect(new Uint8Array(await readFile(join(folder, 'system.squashfs')))).toEqual(IMAGE_BYTES);
    expect((await stat(join(folder, 'qx-node.tar.zst'))).mode & 0o777).toBe(0o644);
    const names = Object.keys(await snapshot(directory)).sort();
    expect(names.filter((name) => name.startsWith('.'))).toEqual(['.incoming']);
  });

  test('defect 35: keeps every field of its manifest, also those this server does not know', async () => {
    const extra = { ...FULL_CONTENT, requires_db_migration: true, future_field: { a: [1] } } as typeof FULL_CONTENT;
    await send(wholeRelease(await signedBy(keys.os, extra)));
    const copy = await readFile(join(directory, 'quantix-os/dev/1.1.0/manifest.json'), 'utf8');
    expect(JSON.parse(copy)).toMatchObject({ requires_db_migration: true, future_field: { a: [1] } });
    expect(JSON.parse(copy)).toEqual(
      (await readRelease(publisher.store, { product: 'quantix-os', channel: 'dev', version: '1.1.0' }))?.manifest,
    );
  });

  test('may send its parts in any order, named by file', async () => {
    await send([
      ['system.squashfs', IMAGE_BYTES],
      ['qx-console.tar.zst', CONSOLE_BYTES],
      ['manifest', await signedBy(keys.os)],
      ['qx-node.tar.zst', NODE_BYTES],
    ]);
    expect((await latestRelease(publisher.store, 'quantix-os', 'dev'))?.manifest.version).toBe('1.1.0');
  });

  test('defect 17: is the latest by semantic version, not by name or time', async () => {
    for (const version of ['1.10.0', '1.9.0', '1.10.0-rc.1', '2.0.0-beta']) {
      await send(wholeRelease(await signedBy(keys.os, { version })));
    }
    const versions = (await listReleases(publisher.store, 'quantix-os', 'dev')).map(
      (release) => release.manifest.version,
    );
    expect(versions).toEqual(['2.0.0-beta', '1.10.0', '1.10.0-rc.1', '1.9.0']);
  });
});

describe('T38: the token alone changes nothing', () => {
  const files = wholeRelease(new Uint8Array()).slice(1);
  const node = ['qx-node', NODE_BYTES] as const;
  const rest = files.slice(1);

  test('unsigned manifest', async () => {
    await expectRefused('UNSIGNED', [['manifest', encode(JSON.stringify(manifestOf(FULL_CONTENT)))], ...files]);
  });
  test('signed by a key that nobody trusts', async () => {
    await expectRefused('KEY_UNKNOWN', wholeRelease(await signedBy(keys.stranger)));
  });
  test('dated ahead, which would shut out every release after it', async () => {
    const ahead = await signedBy(keys.os, { release_date: '2099-01-01T00:00:00Z' });
    await expectRefused('DATED_AHEAD', wholeRelease(ahead));
  });
  test('expired, which no host would install', async () => {
    await expectRefused('EXPIRED', wholeRelease(await signedBy(keys.os, { expires_at: '2026-11-02T00:00:00Z' })));
  });
  test('an image that would not need a reboot, which no image can', async () => {
    const full_image = { ...FULL_CONTENT.full_image, requires_reboot: false } as Manifest['full_image'];
    await expectRefused('MANIFEST_INVALID', wholeRelease(await signedBy(keys.os, full_image ? { full_image } : {})));
  });
  test('a sequence that no normal release can follow is told of in the log', async () => {
    const warn = vi.spyOn(publisher.store.log, 'warn');
    await send(wholeRelease(await signedBy(keys.os, { sequence: 99_999_999_999 })));
    expect(warn).toHaveBeenCalledWith('sequence_ahead', { version: '1.1.0', sequence: 99_999_999_999 });
  });
  test("signed by the other product's key", async () => {
    await expectRefused('KEY_NOT_ALLOWED', wholeRelease(await signedBy(keys.vdc)));
  });
  test('changed after it was signed', async () => {
    const changed = new TextDecoder().decode(await signedBy(keys.os)).replace('/data/bin/qx-node', '/data/bin/qx-evil');
    await expectRefused('SIGNATURE_INVALID', wholeRelease(encode(changed)));
  });
  test('sent to another product than it is for', async () => {
    const envelope = await signedBy(keys.os);
    await expect(send(wholeRelease(envelope), 'quantix-vdc')).rejects.toMatchObject({ code: 'WRONG_PRODUCT' });
    expect(await latestRelease(publisher.store, 'quantix-vdc', 'dev')).toBeNull();
  });
  test('defect 33: an existing version with other bytes', async () => {
    const other = encode('other bytes of qx-node');
    const { componentOf } = await import('../support/keys.ts');
    const changed = { ...FULL_CONTENT, version: '0.9.0', components: [componentOf('qx-node', other)] };
    await expectRefused('REFUSED_OVERWRITE', [
      ['manifest', await signedBy(keys.os, changed)],
      ['qx-node', other],
      ['full_image', IMAGE_BYTES],
    ]);
  });
  test('another channel with other bytes under this version', async () => {
    const other = encode('other bytes of qx-node');
    const { componentOf } = await import('../support/keys.ts');
    const changed = { ...FULL_CONTENT, channel: 'beta', version: '0.9.0', components: [componentOf('qx-node', other)] };
    await expectRefused('REFUSED_OVERWRITE', [
      ['manifest', await signedBy(keys.os, changed as Parameters<typeof signedBy>[1])],
      ['qx-node', other],
      ['full_image', IMAGE_BYTES],
    ]);
  });
  test('an artifact that is not listed, before and after the manifest', async () => {
    await expectRefused('ARTIFACT_UNLISTED', [...wholeRelease(await signedBy(keys.os)), ['qx-evil', NODE_BYTES]]);
    await expect(send([['qx-evil', NODE_BYTES], ...wholeRelease(await signedBy(keys.os))])).rejects.toMatchObject({
      code: 'ARTIFACT_UNLISTED',
    });
  });
  test('defect 33: an artifact that is missing', async () => {
    await expectRefused('ARTIFACT_MISSING', [['manifest', await signedBy(keys.os)], ...rest]);
  });
  test('defect 33: a file with another hash, the image too', async () => {
    const flipped = NODE_BYTES.with(3, 0);
    await expectRefused('HASH_MISMATCH', [['manifest', await signedBy(keys.os)], ['qx-node', flipped], ...rest]);
    await expect(
      send([...wholeRelease(await signedBy(keys.os)).slice(0, 3), ['full_image', IMAGE_BYTES.with(0, 0)]]),
    ).rejects.toMatchObject({ code: 'HASH_MISMATCH' });
  });
  test('defect 33: a file that is shorter or longer than listed', async () => {
    const longer = encode('new bytes of qx-node, and more');
    await expectRefused('SIZE_MISMATCH', [['manifest', await signedBy(keys.os)], ['qx-node', longer], ...rest]);
    await expect(
      send([['qx-node', NODE_BYTES.subarray(1)], ['manifest', await signedBy(keys.os)], ...rest]),
    ).rejects.toMatchObject({ code: 'SIZE_MISMATCH' });
  });
  test('a file before the manifest that would fill the disk', async () => {
    await expectRefused('SIZE_MISMATCH', [
      ['qx-node', new Uint8Array((1 << 20) + 1)],
      ['manifest', await signedBy(keys.os)],
    ]);
  });
  test('defect 34: sha256 "pending", as the ancestor\'s page sent it', async () => {
    const envelope = JSON.parse(new TextDecoder().decode(await signedBy(keys.os)));
    envelope.manifest.components[0].sha256 = 'pending';
    await expectRefused('SIGNATURE_INVALID', [['manifest', encode(JSON.stringify(envelope))], ...files]);
  });
  test('twice the same part, twice the manifest, or none', async () => {
    const envelope = await signedBy(keys.os);
    await expectRefused('BAD_REQUEST', [...wholeRelease(envelope), node]);
    await expect(send([...wholeRelease(envelope), ['manifest', envelope]])).rejects.toMatchObject({
      code: 'BAD_REQUEST',
    });
    await expect(send(files)).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    await expect(send([])).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  });
  test.each(EVIL_NAMES)('T27: %j as a name, signed by whom it may be, leaves its folder in no place', async (name) => {
    const [component] = FULL_CONTENT.components ?? [];
    for (const changed of [
      { components: [{ ...component, artifact: name }] },
      { version: name },
      ...(name === 'CON' ? [] : [{ product: name }, { components: [{ ...component, name }] }]),
    ]) {
      const envelope = await signedAnyway({ ...manifestOf(FULL_CONTENT), ...changed }, 'os-key');
      await expectRefused('MANIFEST_INVALID', wholeRelease(envelope));
    }
    // The name of a part: nothing that it could be is listed.
    await expectRefused('ARTIFACT_UNLISTED', [...wholeRelease(await signedBy(keys.os)), [name, NODE_BYTES]]);
  });
});

test('a file for which the disk has no room is refused before its first byte', async () => {
  const files = { ...publisher.store.files, freeBytes: async () => 5 };
  publisher = publisherAt(directory, keys.keyring, files);
  await expect(send(wholeRelease(await signedBy(keys.os)))).rejects.toMatchObject({ code: 'NO_SPACE' });
});

test('another manifest for a published version is refused before its files are read', async () => {
  await send(wholeRelease(await signedBy(keys.os)));
  const envelope = await signedBy(keys.os, { release_notes: 'other' });
  async function* parts() {
    yield* partsOf([['manifest', envelope]]);
    throw new Error('was read on');
  }
  await expect(publish(publisher, 'quantix-os', parts())).rejects.toMatchObject({ code: 'REFUSED_OVERWRITE' });
});

describe('signing on the server', () => {
  const bare = encode(JSON.stringify(manifestOf(FULL_CONTENT)));
  const signing = async () => {
    const signer = await createSigner(keys.stranger.seed, 'server-key', hostClock(hostProcess()));
    publisher = { ...publisher, signer, keyring: trusting(keys.keyring, signer) };
  };

  test('defect 36: signs a bare manifest once, when it is published', async () => {
    await signing();
    await send(wholeRelease(bare));
    const first = await latestRelease(publisher.store, 'quantix-os', 'dev');
    expect(JSON.parse(new TextDecoder().decode(first?.envelope))).toMatchObject({ key_id: 'server-key' });
    expect(first?.manifestBytes).toEqual(bare);
    await send(wholeRelease(bare));
    expect((await latestRelease(publisher.store, 'quantix-os', 'dev'))?.envelope).toEqual(first?.envelope);
  });

  test('does not mend an envelope with a wrong signature', async () => {
    await signing();
    const broken = JSON.parse(new TextDecoder().decode(await signedBy(keys.os)));
    for (const without of ['signature', 'key_id', 'algorithm']) {
      const { [without]: _dropped, ...envelope } = broken;
      await expect(send([['manifest', encode(JSON.stringify(envelope))]])).rejects.toHaveProperty('code');
    }
    expect(await latestRelease(publisher.store, 'quantix-os', 'dev')).toBeNull();
  });

  test('is not trusted by a release build that was not built with that key', async () => {
    await signing();
    publisher = { ...publisher, keyring: trusting({ ...keys.keyring, kind: 'release' }, publisher.signer) };
    await expect(send(wholeRelease(bare))).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
  });
});
