import { join } from 'node:path';
import { expect, test } from 'vitest';
import { artifactsOf, type Channel } from '../../src/format/manifest.ts';
import { folderOf, listReleases, recoverStore, removeRelease } from '../../src/server/artifacts.ts';
import { type Publisher, publish } from '../../src/server/publish.ts';
import { hostFiles } from '../../src/system/files.ts';
import { cutAfter } from '../support/powercut.ts';
import {
  partsOf,
  publisherAt,
  releaseKeys,
  type Sent,
  signedBy,
  snapshot,
  wholeRelease,
} from '../support/publishing.ts';
import { temporaryFolder } from '../support/temp.ts';

/** The power goes before the first effect, after the first, after the second and so on; then the server starts again. */

const keys = await releaseKeys();
const old = wholeRelease(await signedBy(keys.os, { version: '1.0.0' }));
const first = wholeRelease(await signedBy(keys.os, { sequence: 1 }));
const refreshed: Sent = [['manifest', await signedBy(keys.os, { sequence: 2 })]];
const promoted: Sent = [['manifest', await signedBy(keys.os, { sequence: 1, channel: 'beta' })]];
const ref = { product: 'quantix-os', channel: 'dev', version: '1.1.0' } as const;

const send = (publisher: Publisher, sent: Sent) => publish(publisher, 'quantix-os', partsOf(sent));

/** Every release that is listed, as "version sequence", after all its artifacts were found whole. */
async function whatIsServed({ store }: Publisher, channel: Channel): Promise<string[]> {
  const releases = await listReleases(store, 'quantix-os', channel);
  for (const { manifest } of releases) {
    for (const { artifact, sha256 } of artifactsOf(manifest)) {
      expect((await store.files.hash(`${folderOf(store, manifest)}/${artifact}`)).sha256).toBe(sha256);
    }
  }
  return releases.map(({ manifest }) => `${manifest.version} ${manifest.sequence ?? '-'}`);
}

interface Journey {
  readonly channel: Channel;
  readonly before: readonly Sent[];
  readonly act: (publisher: Publisher) => Promise<unknown>;
  readonly old: readonly string[];
  readonly new: readonly string[];
}

const journeys: Readonly<Record<string, Journey>> = {
  publish: { channel: 'dev', before: [old], act: (p) => send(p, first), old: ['1.0.0 -'], new: ['1.1.0 1', '1.0.0 -'] },
  refresh: {
    channel: 'dev',
    before: [old, first],
    act: (p) => send(p, refreshed),
    old: ['1.1.0 1', '1.0.0 -'],
    new: ['1.1.0 2', '1.0.0 -'],
  },
  promote: { channel: 'beta', before: [first], act: (p) => send(p, promoted), old: [], new: ['1.1.0 1'] },
  delete: {
    channel: 'dev',
    before: [old, first],
    act: (p) => removeRelease(p.store, ref, p.random.id()),
    old: ['1.1.0 1', '1.0.0 -'],
    new: ['1.0.0 -'],
  },
};

/** Runs a journey with power for `count` effects, starts the server again, and says whether the journey was cut. */
async function cutAndRecover(
  journey: Journey,
  count: number,
  torn: boolean,
): Promise<{ effects: number; wasCut: boolean }> {
  const directory = join(await temporaryFolder(), 'releases');
  const calm = publisherAt(directory, keys.keyring);
  for (const sent of journey.before) await send(calm, sent);
  const cut = cutAfter({ files: hostFiles('') }, count, { torn });
  const ended = await journey.act(publisherAt(directory, keys.keyring, cut.ports.files)).then(
    () => true,
    () => false,
  );
  expect(ended).toBe(!cut.isOff());

  await recoverStore(calm.store);
  const served = await whatIsServed(calm, journey.channel);
  expect([journey.old, journey.new]).toContainEqual(served);
  if (ended) expect(served).toEqual(journey.new);
  // And again, as whoever was cut off does.
  await journey.act(calm);
  await recoverStore(calm.store);
  expect(await whatIsServed(calm, journey.channel)).toEqual(journey.new);
  expect(Object.keys(await snapshot(directory)).filter((name) => name.startsWith('.'))).toEqual([]);
  return { effects: cut.effects.length, wasCut: cut.isOff() };
}

test.each(Object.entries(journeys))(
  '%s: old or new after every cut, and the second try ends it',
  async (_name, journey) => {
    const { effects } = await cutAndRecover(journey, Number.POSITIVE_INFINITY, false);
    expect(effects).toBeGreaterThan(2);
    for (let count = 0; count < effects; count++) {
      expect((await cutAndRecover(journey, count, count % 2 === 1)).wasCut).toBe(true);
    }
  },
);
