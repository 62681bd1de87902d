import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import { artifactOf, sha256Of } from '../support/keys.ts';
import { curl } from '../support/update-server.ts';
import { openSite, type Site } from '../support/update-site.ts';

let site: Site;
beforeEach(async () => {
  site = await openSite();
});

describe('downloads', () => {
  const bytes = new Uint8Array(randomBytes(1_000_000));
  const etag = `"${sha256Of(bytes)}"`;
  let artifact: string;

  beforeEach(async () => {
    await site.writeRelease({
      components: [],
      full_image: { ...artifactOf('system.squashfs', bytes), requires_reboot: true },
    });
    await writeFile(join(site.folder, 'system.squashfs'), bytes);
    expect(
      (await site.publish(...site.field('manifest', 'manifest.json'), ...site.field('full_image', 'system.squashfs')))
        .status,
    ).toBe(201);
    artifact = `${site.api}/quantix-os/releases/1.1.0/system.squashfs?channel=dev`;
  });

  test('the matrix of Range, If-Range and If-None-Match', async () => {
    const whole = await curl(artifact);
    expect(whole.status).toBe(200);
    expect(whole.body).toEqual(bytes);
    expect(whole.headers).toMatchObject({
      etag,
      'accept-ranges': 'bytes',
      'content-length': '1000000',
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment; filename="system.squashfs"',
      'cache-control': 'public, max-age=31536000, immutable',
      'repr-digest': `sha-256=:${Buffer.from(sha256Of(bytes), 'hex').toString('base64')}:`,
    });

    const rows: readonly [headers: string[], status: number, body: Uint8Array | null, range?: string][] = [
      [['Range: bytes=0-0'], 206, bytes.subarray(0, 1), 'bytes 0-0/1000000'],
      [['Range: bytes=999990-'], 206, bytes.subarray(999_990), 'bytes 999990-999999/1000000'],
      [['Range: bytes=-10'], 206, bytes.subarray(999_990), 'bytes 999990-999999/1000000'],
      [['Range: bytes=5-999999999'], 206, bytes.subarray(5), 'bytes 5-999999/1000000'],
      [['Range: bytes=1000000-'], 416, null, 'bytes */1000000'],
      [['Range: bytes=0-1,5-6'], 200, bytes],
      [['Range: bytes=9-1'], 200, bytes],
      [['Range: bytes=500000-', `If-Range: ${etag}`], 206, bytes.subarray(500_000), 'bytes 500000-999999/1000000'],
      [['Range: bytes=500000-', 'If-Range: "other"'], 200, bytes],
      [['Range: bytes=500000-', 'If-Range: Sat, 21 Nov 2026 03:00:00 GMT'], 200, bytes],
      [[`If-None-Match: ${etag}`], 304, new Uint8Array()],
      [['If-None-Match: "other"'], 200, bytes],
    ];
    for (const [headers, status, body, range] of rows) {
      const answer = await curl(artifact, ...headers.flatMap((header) => ['-H', header]));
      expect([headers, answer.status, answer.headers['content-range']]).toEqual([headers, status, range]);
      if (body !== null) expect(Buffer.compare(answer.body, body)).toBe(0);
    }
  });

  test('HEAD answers as GET would, without a body, and knows no ranges', async () => {
    const head = await curl('-I', artifact);
    expect([head.status, head.headers['content-length'], head.headers.etag, head.body.length]).toEqual([
      200,
      '1000000',
      etag,
      0,
    ]);
    expect((await curl('-I', '-H', 'Range: bytes=0-1', artifact)).status).toBe(200);
    expect((await curl('-I', '-H', `If-None-Match: ${etag}`, artifact)).status).toBe(304);
  });

  test('curl resumes a download that broke off', async () => {
    const target = join(site.folder, 'part');
    await writeFile(target, bytes.subarray(0, 400_000));
    await execa('curl', ['-sS', '-C', '-', '-o', target, artifact]);
    expect(sha256Of(await readFile(target))).toBe(sha256Of(bytes));
  });

  test('a file that was damaged on the disk is not sent', async () => {
    await writeFile(join(site.folder, 'releases/quantix-os/dev/1.1.0/system.squashfs'), 'short');
    const answer = await curl(artifact);
    expect([answer.status, JSON.parse(answer.text).code]).toEqual([500, 'STATE_INVALID']);
  });
});
