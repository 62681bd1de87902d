import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { SERVER_ROUTES } from '../../src/format/routes.ts';
import { sha256Of } from '../support/keys.ts';
import { IMAGE_BYTES } from '../support/publishing.ts';
import { curl, startServer } from '../support/update-server.ts';
import { AUTHORIZED, openSite, type Site } from '../support/update-site.ts';

/** The real server as a process, asked by curl. */

let site: Site;
beforeEach(async () => {
  site = await openSite();
});

describe("the seeds' requests", () => {
  test('health, channels, and a product without releases', async () => {
    expect(JSON.parse((await curl(`${site.server.url}/health`)).text)).toMatchObject({ status: 'healthy' });
    expect(JSON.parse((await curl(`${site.api}/channels`)).text).map(({ name }: { name: string }) => name)).toEqual([
      'dev',
      'beta',
      'stable',
    ]);
    const none = await curl(`${site.api}/quantix-os/manifest?channel=stable`);
    expect([none.status, none.headers['content-type']]).toEqual([404, 'application/problem+json']);
    expect(JSON.parse(none.text)).toMatchObject({
      code: 'NO_RELEASE',
      error: 'No releases found',
      product: 'quantix-os',
      channel: 'stable',
    });
    expect((await curl(`${site.api}/quantix-os/releases`)).text).toBe('[]');
  });

  test('is ready while its database and its releases are there, and healthy as long as it answers', async () => {
    const ready = async () => {
      const { status, text } = await curl(`${site.server.url}/ready`);
      return [status, JSON.parse(text)];
    };
    const check = (name: string, ok = true) => expect.objectContaining({ name, ok });
    expect(await ready()).toEqual([200, { status: 'ready', checks: [check('database'), check('releases')] }]);
    const releases = join(site.folder, 'releases');
    await rename(releases, `${releases}.away`);
    expect(await ready()).toEqual([
      503,
      { status: 'not_ready', checks: [check('database'), check('releases', false)] },
    ]);
    expect((await curl(`${site.server.url}/health`)).status).toBe(200);
  });

  test('publish with one part per component, and read everything back exactly', async () => {
    await site.writeRelease();
    const published = await site.publish(...site.allFields());
    expect(published.status).toBe(201);
    expect(JSON.parse(published.text)).toEqual({
      status: 'published',
      product: 'quantix-os',
      version: '1.1.0',
      channel: 'dev',
      artifacts: ['qx-node.tar.zst', 'qx-console.tar.zst', 'system.squashfs'],
    });
    const envelope = new Uint8Array(await readFile(join(site.folder, 'manifest.json')));
    const manifest = JSON.stringify(JSON.parse(Buffer.from(envelope).toString()).manifest);
    for (const path of ['manifest/signed', 'releases/1.1.0/manifest/signed', 'releases/1.1.0/manifest.signed.json']) {
      const signed = await curl(`${site.api}/quantix-os/${path}?channel=dev`);
      expect(signed.body).toEqual(envelope);
      expect(signed.headers).toMatchObject({ etag: `"${sha256Of(envelope)}"`, 'cache-control': 'no-cache' });
    }
    for (const path of ['manifest', 'releases/1.1.0/manifest', 'releases/1.1.0/manifest.json']) {
      expect((await curl(`${site.api}/quantix-os/${path}`)).text).toBe(manifest);
    }
    await site.writeRelease({ version: '1.0.0', channel: 'beta', release_date: '2026-10-01T00:00:00Z' });
    expect((await site.publish(...site.allFields())).status).toBe(201);
    const all = JSON.parse((await curl(`${site.api}/quantix-os/releases`)).text);
    expect(all.map(({ version, channel }: { version: string; channel: string }) => [version, channel])).toEqual([
      ['1.1.0', 'dev'],
      ['1.0.0', 'beta'],
    ]);
    const list = JSON.parse((await curl(`${site.api}/quantix-os/releases?channel=dev`)).text);
    expect(list).toEqual([
      { version: '1.1.0', channel: 'dev', release_date: '2026-11-01T00:00:00Z', update_type: 'full' },
    ]);
  });

  test.each([
    [
      'by file name, the manifest last, as the script of the ancestor did',
      (): string[] => [
        ...site.field('qx-node.tar.zst', 'qx-node.tar.zst'),
        ...site.field('qx-console.tar.zst', 'qx-console.tar.zst'),
        ...site.field('system.squashfs', 'system.squashfs'),
        ...site.field('manifest', 'manifest.json'),
      ],
    ],
    [
      'the manifest as a field without a file name',
      (): string[] => ['-F', `manifest=<${join(site.folder, 'manifest.json')}`, ...site.allFields().slice(2)],
    ],
    [
      'the manifest declared as JSON',
      (): string[] => [
        '-F',
        `manifest=<${join(site.folder, 'manifest.json')};type=application/json`,
        ...site.allFields().slice(2),
      ],
    ],
  ])('publish with parts %s', async (_how, fields) => {
    await site.writeRelease();
    expect((await site.publish(...fields())).status).toBe(201);
    expect((await curl(`${site.api}/quantix-os/releases/1.1.0/system.squashfs`)).body).toEqual(IMAGE_BYTES);
  });

  test('delete, once', async () => {
    await site.writeRelease();
    await site.publish(...site.allFields());
    const remove = () => curl('-X', 'DELETE', `${site.api}/quantix-os/releases/1.1.0?channel=dev`, ...AUTHORIZED);
    expect(JSON.parse((await remove()).text)).toEqual({
      status: 'deleted',
      product: 'quantix-os',
      version: '1.1.0',
      channel: 'dev',
    });
    expect((await remove()).status).toBe(404);
    expect((await curl(`${site.api}/quantix-os/releases/1.1.0/manifest`)).status).toBe(404);
  });

  test('generate-keys only with --dev; public-key names the keys whose releases are taken, and its own when it signs', async () => {
    expect((await curl('-X', 'POST', `${site.api}/admin/generate-keys`, ...AUTHORIZED)).status).toBe(403);
    const none = JSON.parse((await curl(`${site.api}/admin/public-key`)).text);
    expect(none).toMatchObject({ public_key: null, key_id: null, algorithm: 'ed25519' });
    expect(none.keys.length).toBeGreaterThan(0);
    const dev = await startServer({ RELEASE_DIR: join(site.folder, 'dev/releases') }, ['--dev']);
    const made = JSON.parse((await curl('-X', 'POST', `${dev.url}/api/v1/admin/generate-keys`, ...AUTHORIZED)).text);
    expect(made).toMatchObject({ status: 'generated', private_key: join(site.folder, 'dev/keys/signing-private.key') });
    expect(Object.keys(made)).toEqual(['status', 'private_key', 'public_key', 'note']);
    const signing = await startServer({
      RELEASE_DIR: join(site.folder, 'signing'),
      SIGNING_PRIVATE_KEY: made.private_key,
      SIGNING_PUBLIC_KEY: join(site.folder, 'public.key'),
    });
    const shown = JSON.parse((await curl(`${signing.url}/api/v1/admin/public-key`)).text);
    const publicKey = (await readFile(made.public_key, 'utf8')).trim();
    expect(shown).toMatchObject({ public_key: publicKey, key_id: 'quantix-release-key-1', algorithm: 'ed25519' });
    expect((await readFile(join(site.folder, 'public.key'), 'utf8')).trim()).toBe(publicKey);
  });
});

test('the OpenAPI document names every route of the table', async () => {
  const document = JSON.parse((await curl(`${site.api}/openapi.json`)).text);
  expect(document.openapi).toBe('3.1.0');
  for (const [name, route] of Object.entries(SERVER_ROUTES)) {
    const operation = document.paths[route.path][route.method.toLowerCase()];
    expect(operation.operationId).toBe(name);
    expect(operation.security).toEqual(route.who === 'open' ? undefined : [{ publisher: [] }]);
  }
});
