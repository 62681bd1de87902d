import { chmod, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseComponent } from '../../src/cli/release/components.ts';
import type { ReleaseTools } from '../../src/cli/release/tools.ts';
import { readManifest } from '../../src/format/manifest.ts';
import { hostClock } from '../../src/system/clock.ts';
import { hostProcess } from '../../src/system/process.ts';
import { sharedImages } from '../support/images.ts';
import { sha256Of } from '../support/keys.ts';
import { document, release } from '../support/release-tools.ts';
import { requires } from '../support/requires.ts';

const place = { dir: '' };
const at = (name: string): string => join(place.dir, name);

beforeEach(async () => {
  place.dir = await mkdtemp(join(tmpdir(), 'qx-manifest-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(place.dir, { recursive: true });
});

const pack = async (source: string, ...more: string[]) =>
  document(await release(['pack', at(source), '--out', at('out'), '--json', ...more]));

/** A small site whose entries are made in the given order. */
async function makeSite(name: string, order: readonly string[]): Promise<void> {
  for (const file of order) {
    const path = at(`${name}/${file}`);
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, `content of ${file}`);
  }
}

describe('pack', () => {
  const files = ['index.html', 'assets/ä.css', 'assets/app.js', 'Z.txt', 'a.txt'];

  test('a folder: the same bytes in another order, umask, time, locale and time zone', async () => {
    await makeSite('first/site', files);
    const one = await pack('first/site');
    const before = process.umask(0o077);
    vi.stubEnv('TZ', 'Pacific/Chatham');
    vi.stubEnv('LC_ALL', 'tr_TR.UTF-8');
    await makeSite('second/site', [...files].reverse());
    for (const file of files) await utimes(at(`second/site/${file}`), 1, 1);
    const two = await pack('second/site');
    process.umask(before);
    // It says what it changed, which is all that is another.
    expect(two.changed_modes).toContainEqual({ path: 'a.txt', from: '0600', to: '0644' });
    expect({ ...two, changed_modes: one.changed_modes }).toEqual(one);
    expect(one).toMatchObject({ schema: 'qx-release.pack/1', kind: 'directory', artifact: 'site.tar.zst' });
  });

  test('a file: the result is what it says it is', async () => {
    await writeFile(at('tool'), 'a program', { mode: 0o755 });
    const packed = await pack('tool', '--name', 'qx-tool');
    const bytes = await readFile(at('out/qx-tool.tar.zst'));
    expect(packed).toEqual({
      schema: 'qx-release.pack/1',
      path: at('out/qx-tool.tar.zst'),
      artifact: 'qx-tool.tar.zst',
      kind: 'file',
      sha256: sha256Of(bytes),
      size_bytes: bytes.length,
      unpacked_size_bytes: 9,
      changed_modes: [],
    });
  });

  test.each(['../x', '.hidden', 'a b', 'a/b'])('is not called %s', async (name) => {
    await writeFile(at('tool'), 'a program');
    expect(await release(['pack', at('tool'), '--name', name, '--out', place.dir])).toMatchObject({ exitCode: 2 });
    expect(await readdir(place.dir)).toEqual(['tool']);
  });

  test('of nothing', async () => {
    const ran = await release(['pack', at('nothing'), '--json']);
    expect(document(ran)).toMatchObject({ code: 'NOT_FOUND' });
  });
});

const in2099: Partial<ReleaseTools> = {
  clock: { ...hostClock(hostProcess()), nowMs: () => Date.parse('2099-01-01T00:00:00Z') },
  buildDateMs: Date.parse('2026-11-01T00:00:00Z'),
};

describe('manifest', () => {
  const env = { SOURCE_DATE_EPOCH: '1793534400' };
  const manifest = (...more: string[]) =>
    release(['manifest', '--version', '1.2.0', '--channel', 'dev', ...more], { env });
  const made = async (...more: string[]) => {
    const ran = await manifest(...more);
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    return readManifest(JSON.parse(ran.stdout));
  };

  beforeEach(async () => {
    await writeFile(at('qx-node'), 'a program', { mode: 0o755 });
    await makeSite('ui', ['index.html']);
    await pack('qx-node');
    await pack('ui', '--name', 'host-ui');
  });

  test.each<[what: string, changes: Partial<ReleaseTools>, args: readonly string[]]>([
    ['a date that lies ahead', {}, ['--release-date', '2099-01-01T00:00:00Z']],
    ['a clock that lies decades ahead of the program', in2099, []],
    ['both', in2099, ['--release-date', '2099-01-01T00:00:00Z']],
  ])('is not made with %s', async (_what, changes, args) => {
    const options = ['--version', '1.2.0', '--channel', 'dev', '--component', node(), '--out', at('manifest.json')];
    const ran = await release(['manifest', ...options, ...args, '--json'], changes);
    expect([ran.exitCode, document(ran).code]).toEqual([7, 'DATED_AHEAD']);
    expect(await readdir(place.dir)).not.toContain('manifest.json');
  });

  test('is not made with a sequence that no normal release can follow, unless that is meant', async () => {
    const options = ['--version', '1.2.0', '--channel', 'dev', '--component', node(), '--out', at('manifest.json')];
    const ran = await release(['manifest', ...options, '--sequence', '99999999999', '--json']);
    expect([ran.exitCode, document(ran).code]).toEqual([7, 'SEQUENCE_AHEAD']);
    expect(document(ran)).toMatchObject({ next: expect.stringContaining('--allow-sequence-ahead') });
    expect(await readdir(place.dir)).not.toContain('manifest.json');
    const meant = await release(['manifest', ...options, '--sequence', '99999999999', '--allow-sequence-ahead']);
    expect(meant.exitCode).toBe(0);
    expect((await release(['manifest', ...options, '--sequence', '7'])).exitCode).toBe(0);
  });

  const node = () => `qx-node=${at('out/qx-node.tar.zst')}`;
  const ui = () => `host-ui=${at('out/host-ui.tar.zst')}`;

  test('says of each file what it is and where it belongs', async () => {
    const { components, ...rest } = await made('--component', node(), `${ui()},needs=qx-node@1.2.0,version=1.1.0`);
    const archive = await readFile(at('out/qx-node.tar.zst'));
    expect(rest).toEqual({
      product: 'quantix-os',
      version: '1.2.0',
      channel: 'dev',
      release_date: '2026-11-01T12:00:00Z',
      update_type: 'component',
      format: 1,
      sequence: 1793534400,
    });
    expect(components).toMatchObject([
      {
        name: 'qx-node',
        version: '1.2.0',
        artifact: 'qx-node.tar.zst',
        sha256: sha256Of(archive),
        size_bytes: archive.length,
        install_path: '/data/bin/qx-node',
        restart_service: 'quantix-node',
        kind: 'file',
        unpacked_size_bytes: 9,
      },
      {
        name: 'host-ui',
        version: '1.1.0',
        install_path: '/data/share/quantix-host-ui',
        restart_service: null,
        kind: 'directory',
        dependencies: [{ name: 'qx-node', min_version: '1.2.0' }],
      },
    ]);
  });

  requires({ commands: ['mksquashfs'] })('with an image', () => {
    const image = sharedImages();

    test('the same twice, whatever the order of the options', async () => {
      const options = [
        ['--component', node(), ui()],
        ['--image', (await image()).path],
        ['--expires-in', '90d'],
        ['--min-version', '1.0.0'],
        ['--compatible', 'x86_64', 'arm64'],
        ['--min-rollback-version', '1.1.0'],
        ['--release-notes', 'Fixes'],
      ];
      const one = await manifest(...options.flat());
      vi.stubEnv('TZ', 'Asia/Tokyo');
      expect(await manifest(...options.reverse().flat())).toEqual(one);
      expect(JSON.parse(one.stdout)).toMatchObject({ update_type: 'full', expires_at: '2027-01-30T12:00:00Z' });
    });
  });

  test('is dated now when nobody said when', async () => {
    const ran = await release(['manifest', '--version', '1.2.0', '--channel', 'dev', '--component', node()]);
    const { release_date, sequence } = JSON.parse(ran.stdout);
    expect(Math.abs(Date.parse(release_date) - Date.now())).toBeLessThan(60_000);
    expect(sequence).toBe(Date.parse(release_date) / 1000);
  });

  test('is written to a file, and told about', async () => {
    await writeFile(at('notes.md'), '# New\n\nMuch.\n');
    const out = at('manifest.json');
    const ran = await manifest('--component', node(), '--release-notes-file', at('notes.md'), '--out', out, '--json');
    expect(document(ran)).toEqual({
      schema: 'qx-release.manifest/1',
      path: out,
      product: 'quantix-os',
      version: '1.2.0',
      channel: 'dev',
    });
    expect(JSON.parse(await readFile(out, 'utf8'))).toMatchObject({ release_notes: '# New\n\nMuch.' });
  });

  test.each<[string, () => string[], number, string]>([
    ['nothing in it', () => [], 7, 'nothing to install'],
    ['a component that is nowhere', () => ['--component', `x=${at('out/none')},path=/data/bin/x`], 1, 'no file'],
    ['one that nobody knows', () => ['--component', `x=${at('out/qx-node.tar.zst')}`], 2, 'say path='],
    ['one that is no archive', () => ['--component', `qx-node=${at('qx-node')}`], 7, 'ARCHIVE'],
    ['a folder where a file belongs', () => ['--component', `qx-console=${at('two.tar.zst')}`], 2, 'is one file'],
    ['the same twice', () => ['--component', node(), node()], 7, 'appears twice'],
    ['a version that is none', () => ['--component', `${node()},version=v1`], 7, 'version'],
    ['a path that climbs', () => ['--component', `${node()},path=/data/../etc/x`], 7, 'install_path'],
    ['a setting that there is not', () => ['--component', `${node()},mode=0755`], 2, 'no setting'],
    ['an expiry that is none', () => ['--component', node(), '--expires-in', 'soon'], 2, 'Not a duration'],
    ['a sequence of 0', () => ['--component', node(), '--sequence', '0'], 2, 'whole number'],
    [
      'two kinds of notes',
      () => ['--component', node(), '--release-notes', 'a', '--release-notes-file', 'b'],
      2,
      'either',
    ],
  ])('is not made with %s', async (_title, options, exitCode, words) => {
    await makeSite('two', ['one', 'other']);
    await release(['pack', at('two'), '--out', place.dir]);
    const ran = await manifest('--out', at('manifest.json'), ...options());
    expect(ran).toMatchObject({ exitCode, stdout: '' });
    expect(ran.stderr).toContain(words);
    expect(await readdir(place.dir)).not.toContain('manifest.json');
  });

  test('an unreadable option says so and changes nothing', async () => {
    await chmod(at('qx-node'), 0o644);
    expect(await release(['manifest', '--version', '1', '--channel', 'dev'])).toMatchObject({ exitCode: 2 });
    expect(await release(['manifest', '--version', '1.0.0', '--channel', 'nightly'])).toMatchObject({ exitCode: 2 });
    expect(await release(['manifest', '--channel', 'dev'])).toMatchObject({ exitCode: 2 });
  });
});

test.each(['', 'x', '=file', 'x=', 'x=f,service', 'qx-node=f,kind=link', 'qx-node=f,needs=y', 'constructor=f'])(
  'component %j',
  (text) => {
    expect(() => parseComponent('quantix-os', text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  },
);
