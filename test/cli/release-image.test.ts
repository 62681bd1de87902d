import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type ImageOptions, sharedImages } from '../support/images.ts';
import { document, type Ran, release } from '../support/release-tools.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

/** What `qx-release manifest --image` makes of real images, good and bad. */

requires({ commands: ['mksquashfs', 'unsquashfs'] })('an image', () => {
  const imageOf = sharedImages();
  const describe = (path: string, ...more: string[]): Promise<Ran> =>
    release(['manifest', '--version', '1.2.0', '--channel', 'dev', '--image', path, '--json', ...more]);
  const refused = (ran: Ran) => document(ran) as { code?: string; detail?: string };

  test.each<[string, ImageOptions]>([
    ['xz, which GRUB checks', {}],
    ['with a link to its kernel', { bootFiles: 'links' }],
  ])('%s: is taken without a word', async (_what, options) => {
    const { path, sha256, sizeBytes } = await imageOf(options);
    const ran = await describe(path);
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    const full_image = { sha256, size_bytes: sizeBytes, requires_reboot: true, target_slot: 'auto' };
    expect(document(ran)).toMatchObject({ manifest: { full_image } });
  });

  test('that says which version it is: without a word, or with a warning where the release is another one', async () => {
    const { path } = await imageOf({ version: '1.2.0' });
    expect(await describe(path)).toMatchObject({ exitCode: 0, stderr: '' });
    const other = await describe((await imageOf({ version: '1.1.9' })).path);
    expect(other).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining('warning: the image says that it is 1.1.9, and the release is 1.2.0'),
    });
  });

  test('gzip: is taken with a warning', async () => {
    const ran = await describe((await imageOf({ compressor: 'gzip' })).path);
    expect(ran).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('warning: GRUB reads gzip') });
  });

  test('with a kernel for another processor: is taken with a warning that names both', async () => {
    const ran = await describe((await imageOf({ kernelKind: 'arm64 Image' })).path);
    const warning = 'warning: /boot/vmlinuz is for a processor of the kind aarch64, and hosts are x86_64';
    expect(ran).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(warning) });
  });

  test('zstd: is refused for bare slots, and taken where GRUB need not read it', async () => {
    const { path } = await imageOf({ compressor: 'zstd' });
    const bare = await describe(path);
    expect([bare.exitCode, refused(bare).code]).toEqual([7, 'IMAGE_UNBOOTABLE']);
    expect(await describe(path, '--image-layout', 'filesystem')).toMatchObject({ exitCode: 0, stderr: '' });
  });

  test.each<[string, ImageOptions['bootFiles']]>([
    ['without a kernel', 'none'],
    ['whose kernel links to itself', 'loop'],
  ])('%s: is refused for either layout', async (_what, bootFiles = 'none') => {
    const { path } = await imageOf({ bootFiles });
    for (const layout of ['raw', 'filesystem']) {
      const ran = await describe(path, '--image-layout', layout);
      expect([ran.exitCode, refused(ran).code]).toEqual([7, 'IMAGE_UNBOOTABLE']);
      expect(refused(ran).detail).toContain('/boot/vmlinuz');
    }
  });

  test('of which the end is missing, and what is no image: refused, and no manifest is written', async () => {
    const folder = await temporaryFolder();
    const [cut, text, empty] = [join(folder, 'cut'), join(folder, 'text'), join(folder, 'empty')];
    await writeFile(cut, await readFile((await imageOf()).path));
    await truncate(cut, 300_000);
    await writeFile(text, 'no image, but longer than a superblock of squashfs is: '.repeat(4));
    await writeFile(empty, '');
    for (const path of [cut, text, empty]) {
      const out = join(folder, 'manifest.json');
      const ran = await describe(path, '--out', out);
      expect([ran.exitCode, refused(ran).code]).toEqual([7, 'IMAGE_UNBOOTABLE']);
      await expect(readFile(out)).rejects.toThrow('ENOENT');
    }
  });

  test('where there is no unsquashfs: is taken with a warning that nobody looked inside', async () => {
    const { path } = await imageOf({ bootFiles: 'none' });
    const args = ['manifest', '--version', '1.2.0', '--channel', 'dev', '--image', path];
    const ran = await release(args, { unsquash: async () => false });
    expect(ran).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('no unsquashfs') });
  });
});
