import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { publish } from '../../src/server/publish.ts';
import { fleetBench, PUBLISH_TOKEN } from '../support/fleet.ts';
import { partsOf, publisherAt, releaseKeys, signedBy, wholeRelease } from '../support/publishing.ts';
import { document, type Ran, release } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

/** What got onto a server by mistake, or half of a release, comes off again by a verb. */

async function setUp() {
  const server = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, hasTls: false, isDev: true });
  const channel = join(server.folder, 'releases/quantix-os/dev');
  const withdraw = (version: string, ...more: readonly string[]): Promise<Ran> =>
    release(['withdraw', version, '--channel', 'dev', '--server', server.origin, ...more], {
      env: { QX_TOKEN: PUBLISH_TOKEN },
    });
  return { server, channel, withdraw };
}

test('a release that was published by mistake is no longer offered', async () => {
  const { server, channel, withdraw } = await setUp();
  const { os, keyring } = await releaseKeys();
  const publisher = publisherAt(join(server.folder, 'releases'), keyring);
  for (const version of ['1.1.0', '1.2.0']) {
    await publish(publisher, 'quantix-os', partsOf(wholeRelease(await signedBy(os, { version }))));
  }
  const newest = async () => (await server.raw({}, 'GET', '/api/v1/quantix-os/manifest?channel=dev')).json.version;
  expect(await newest()).toBe('1.2.0');
  expect(document(await withdraw('1.2.0', '--json'))).toMatchObject({
    schema: 'qx-release.withdraw/1',
    status: 'withdrawn',
    version: '1.2.0',
    channel: 'dev',
  });
  expect(await newest()).toBe('1.1.0');
  expect(await readdir(channel)).toEqual(['1.1.0']);
  const again = await withdraw('1.2.0');
  expect([again.exitCode, again.stderr]).toEqual([3, expect.stringContaining('[NO_RELEASE]')]);
});

test('what cannot be read as a release, and stands in the way of one, is taken away', async () => {
  const { server, channel, withdraw } = await setUp();
  await mkdir(join(channel, '1.2.0'), { recursive: true });
  await writeFile(join(channel, '1.2.0/manifest.signed.json'), '{"half": ');
  const { os, keyring } = await releaseKeys();
  const publisher = publisherAt(join(server.folder, 'releases'), keyring);
  const whole = async () =>
    publish(publisher, 'quantix-os', partsOf(wholeRelease(await signedBy(os, { version: '1.2.0' }))));
  await expect(whole()).rejects.toMatchObject({
    code: 'REFUSED_OVERWRITE',
    next: expect.stringContaining('qx-release withdraw 1.2.0 --channel dev --product quantix-os'),
  });
  expect((await withdraw('1.2.0')).stdout).toBe('quantix-os 1.2.0 is in dev no more\n');
  expect(await whole()).toMatchObject({ status: 'published' });
});

test('nobody withdraws without the token, or what is no version', async () => {
  const { withdraw } = await setUp();
  const stranger = await withdraw('1.2.0', '--token', 'a'.repeat(40));
  expect([stranger.exitCode, stranger.stderr]).toEqual([5, expect.stringContaining('[TOKEN_REFUSED]')]);
  expect((await withdraw('../stable')).exitCode).toBe(2);
});
