import { cp, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import { componentOf, sha256Of, signedManifest } from '../support/keys.ts';
import { NODE_BYTES, snapshot } from '../support/publishing.ts';
import { curl, startServer } from '../support/update-server.ts';
import { AUTHORIZED, openSite, type Site } from '../support/update-site.ts';

/** Somebody else writes into the folder of the releases: the server goes on with what is left, and never follows them out. */

let site: Site;
let dev: string;
beforeEach(async () => {
  site = await openSite();
  dev = join(site.folder, 'releases/quantix-os/dev');
  await site.writeRelease();
  expect((await site.publish(...site.allFields())).status).toBe(201);
});

const latest = async (api = site.api) => JSON.parse((await curl(`${api}/quantix-os/manifest`)).text).version;

/** The API of a server that was started anew on the same folder. */
async function restarted(): Promise<string> {
  site.server.kill('SIGTERM');
  await site.server.ended;
  const again = await startServer({
    RELEASE_DIR: join(site.folder, 'releases'),
    KEYRING: join(site.folder, 'keyring.json'),
  });
  return `${again.url}/api/v1`;
}

const envelopeOf = (version: string) => join(dev, version, 'manifest.signed.json');
const spoilt: readonly (readonly [string, () => Promise<unknown>])[] = [
  ['a folder in the place of the envelope', () => mkdir(envelopeOf('2.0.0'), { recursive: true })],
  ['an envelope that is a symlink', () => symlink('/etc/hostname', envelopeOf('2.0.0'))],
  ['an envelope that is a fifo', () => execa('mkfifo', [envelopeOf('2.0.0')])],
  ['an envelope of 1 GiB', () => writeFile(envelopeOf('2.0.0'), '').then(() => truncate(envelopeOf('2.0.0'), 2 ** 30))],
  [
    'a folder that is a symlink to itself',
    () => rm(join(dev, '2.0.0'), { recursive: true }).then(() => symlink('2.0.0', join(dev, '2.0.0'))),
  ],
  [
    'a file with the name of a version',
    () => rm(join(dev, '2.0.0'), { recursive: true }).then(() => writeFile(join(dev, '2.0.0'), 'x')),
  ],
];

describe('T32 a spoilt folder hides only itself, also at start:', () => {
  test.each(spoilt)('%s', async (_what, plant) => {
    await mkdir(join(dev, '2.0.0'));
    await plant();
    expect(await latest()).toBe('1.1.0');
    expect(JSON.parse((await curl(`${site.api}/quantix-os/releases`)).text)).toHaveLength(1);
    expect((await curl(`${site.api}/quantix-os/releases/2.0.0/manifest`)).status).toBe(404);
    expect(await latest(await restarted())).toBe('1.1.0');
  });
});

test('a folder in the place of the copy of a manifest does not keep the server from starting', async () => {
  await rm(join(dev, '1.1.0/manifest.json'));
  await mkdir(join(dev, '1.1.0/manifest.json'));
  expect(await latest(await restarted())).toBe('1.1.0');
});

test('a folder that was renamed to another version is offered as neither', async () => {
  await rename(join(dev, '1.1.0'), join(dev, '1.2.0'));
  expect((await curl(`${site.api}/quantix-os/manifest`)).status).toBe(404);
  for (const version of ['1.1.0', '1.2.0']) {
    expect((await curl(`${site.api}/quantix-os/releases/${version}/manifest`)).status).toBe(404);
    expect((await curl(`${site.api}/quantix-os/releases/${version}/qx-node.tar.zst`)).status).toBe(404);
  }
});

test('a release that was copied into another channel is not offered there', async () => {
  await mkdir(join(site.folder, 'releases/quantix-os/stable'));
  await cp(join(dev, '1.1.0'), join(site.folder, 'releases/quantix-os/stable/1.1.0'), { recursive: true });
  expect((await curl(`${site.api}/quantix-os/manifest?channel=stable`)).status).toBe(404);
});

test('T32 symlinks in the place of artifacts are not followed', async () => {
  await writeFile(join(site.folder, 'secret'), 'new bytes of qx-nodE');
  await rm(join(dev, '1.1.0/qx-node.tar.zst'));
  await symlink(join(site.folder, 'secret'), join(dev, '1.1.0/qx-node.tar.zst'));
  const answer = await curl(`${site.api}/quantix-os/releases/1.1.0/qx-node.tar.zst`);
  expect([answer.status, JSON.parse(answer.text).code]).toEqual([500, 'STATE_INVALID']);
});

test('T32 deleting a release that is a symlink takes the link and leaves where it leads', async () => {
  await rename(join(dev, '1.1.0'), join(site.folder, 'elsewhere'));
  await symlink(join(site.folder, 'elsewhere'), join(dev, '1.1.0'));
  const before = await snapshot(join(site.folder, 'elsewhere'));
  expect((await curl('-X', 'DELETE', ...AUTHORIZED, `${site.api}/quantix-os/releases/1.1.0`)).status).toBe(200);
  expect(await snapshot(join(site.folder, 'elsewhere'))).toEqual(before);
  expect((await curl(`${site.api}/quantix-os/manifest`)).status).toBe(404);
});

test('T11 the same file names in two products are files of their own', async () => {
  const other = new TextEncoder().encode('bytes of quantix-vdc');
  const components = [componentOf('qx-node', other)];
  const envelope = await signedManifest({ keys: [site.keys.vdc], manifest: { product: 'quantix-vdc', components } });
  await writeFile(join(site.folder, 'manifest.json'), envelope.envelope);
  await writeFile(join(site.folder, 'qx-node.tar.zst'), other);
  const fields = [...site.field('manifest', 'manifest.json'), ...site.field('qx-node', 'qx-node.tar.zst')];
  const sent = await curl('-X', 'POST', `${site.api}/quantix-vdc/publish`, ...AUTHORIZED, ...fields);
  expect(sent.status).toBe(201);
  const download = async (product: string) =>
    (await curl(`${site.api}/${product}/releases/1.1.0/qx-node.tar.zst`)).body;
  expect(await download('quantix-vdc')).toEqual(other);
  expect(await download('quantix-os')).toEqual(NODE_BYTES);
});

test('a release that is deleted while it is downloaded: the download goes on to its end', async () => {
  const bytes = new Uint8Array(32 << 20).map((_, i) => i);
  await writeFile(join(site.folder, 'big'), bytes);
  const manifest = { version: '1.5.0', components: [componentOf('qx-node', bytes)] };
  const { envelope } = await signedManifest({ keys: [site.keys.os], manifest });
  await writeFile(join(site.folder, 'manifest.json'), envelope);
  await site.publish(...site.field('manifest', 'manifest.json'), ...site.field('qx-node', 'big'));
  const release = `${site.api}/quantix-os/releases/1.5.0`;
  // Its head is here, most of its body is not: more than sockets hold.
  const download = await fetch(`${release}/qx-node.tar.zst`);
  expect((await curl('-X', 'DELETE', ...AUTHORIZED, release)).status).toBe(200);
  expect(sha256Of(new Uint8Array(await download.arrayBuffer()))).toBe(sha256Of(bytes));
  expect((await curl(`${release}/qx-node.tar.zst`)).status).toBe(404);
  expect(await latest()).toBe('1.1.0');
});
