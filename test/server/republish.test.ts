import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Files } from '../../src/ports.ts';
import { latestRelease, recoverStore } from '../../src/server/artifacts.ts';
import { type Publisher, publish } from '../../src/server/publish.ts';
import {
  IMAGE_BYTES,
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

const send = (sent: Sent) => publish(publisher, 'quantix-os', partsOf(sent));

describe('publishing again', () => {
  test('the same is answered as published and changes nothing', async () => {
    const envelope = await signedBy(keys.os);
    const first = await send(wholeRelease(envelope));
    const before = await snapshot(directory);
    expect(await send(wholeRelease(envelope))).toEqual(first);
    expect(await send([['manifest', envelope]])).toEqual(first);
    expect(await snapshot(directory)).toEqual(before);
  });

  test('a refresh replaces the envelope and its copy, and no artifact', async () => {
    await send(wholeRelease(await signedBy(keys.os, { sequence: 4, expires_at: '2097-12-01T00:00:00Z' })));
    const refreshed = await signedBy(keys.os, { sequence: 5, expires_at: '2098-12-01T00:00:00Z' });
    await send([['manifest', refreshed]]);
    const release = await latestRelease(publisher.store, 'quantix-os', 'dev');
    expect(release?.envelope).toEqual(refreshed);
    const copy = await readFile(join(directory, 'quantix-os/dev/1.1.0/manifest.json'));
    expect(new Uint8Array(copy)).toEqual(release?.manifestBytes);
  });

  test.each([
    ['the sequence is not higher', { sequence: 4, expires_at: '2027-12-01T00:00:00Z' }],
    ['the sequence is lower', { sequence: 3 }],
    ['the sequence is gone', {}],
    ['something else changed as well', { sequence: 5, release_notes: 'other' }],
  ])('no refresh when %s', async (_why, change) => {
    await send(wholeRelease(await signedBy(keys.os, { sequence: 4 })));
    const before = await snapshot(directory);
    await expect(send([['manifest', await signedBy(keys.os, change)]])).rejects.toMatchObject({
      code: 'REFUSED_OVERWRITE',
    });
    expect(await snapshot(directory)).toEqual(before);
  });

  test('promotion takes the files from the other channel, once they have been hashed again', async () => {
    await send(wholeRelease(await signedBy(keys.os)));
    await send([['manifest', await signedBy(keys.os, { channel: 'beta' })]]);
    const [from, to] = ['dev', 'beta'].map((channel) => join(directory, `quantix-os/${channel}/1.1.0/system.squashfs`));
    expect((await stat(to ?? '')).ino).toBe((await stat(from ?? '')).ino);
    await writeFile(from ?? '', IMAGE_BYTES.with(0, 0));
    await expect(send([['manifest', await signedBy(keys.os, { channel: 'stable' })]])).rejects.toMatchObject({
      code: 'ARTIFACT_MISSING',
    });
  });

  test('of two at once with other content, exactly one wins', async () => {
    const envelopes = await Promise.all(
      Array.from({ length: 8 }, (_, i) => signedBy(keys.os, { release_notes: `try ${i}` })),
    );
    const results = await Promise.allSettled(envelopes.map((envelope) => send(wholeRelease(envelope))));
    const won = results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
    expect(won).toHaveLength(1);
    const codes = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
    expect(new Set(codes)).toEqual(new Set(['REFUSED_OVERWRITE']));
    const release = await latestRelease(publisher.store, 'quantix-os', 'dev');
    expect(release?.envelope).toEqual(envelopes[won[0] ?? -1]);
  });
});

test('a copy of a manifest that somebody changed is mended at start; a spoilt folder hides only itself', async () => {
  await send(wholeRelease(await signedBy(keys.os)));
  await send(wholeRelease(await signedBy(keys.os, { version: '1.2.0' })));
  const copy = join(directory, 'quantix-os/dev/1.1.0/manifest.json');
  const original = await readFile(copy);
  await writeFile(copy, 'changed');
  await writeFile(join(directory, 'quantix-os/dev/1.2.0/manifest.signed.json'), '{');
  await recoverStore(publisher.store);
  expect(await readFile(copy)).toEqual(original);
  expect((await latestRelease(publisher.store, 'quantix-os', 'dev'))?.manifest.version).toBe('1.1.0');
  await expect(send(wholeRelease(await signedBy(keys.os, { version: '1.2.0' })))).rejects.toMatchObject({
    code: 'REFUSED_OVERWRITE',
  });
});

test('a server that is short of file handles says so, rather than offering an older release as the newest', async () => {
  await send(wholeRelease(await signedBy(keys.os)));
  await send(wholeRelease(await signedBy(keys.os, { version: '1.2.0' })));
  const read: Files['read'] = (path, maxBytes) =>
    path.includes('/1.2.0/')
      ? Promise.reject(Object.assign(new Error('too many open files'), { code: 'EMFILE', syscall: 'open' }))
      : publisher.store.files.read(path, maxBytes);
  const store = { ...publisher.store, files: { ...publisher.store.files, read } };
  await expect(latestRelease(store, 'quantix-os', 'dev')).rejects.toMatchObject({ code: 'EMFILE' });
});
