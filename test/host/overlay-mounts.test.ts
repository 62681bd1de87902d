import { mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNewer, isVersion } from '../../src/format/version.ts';
import { type HostRoot, hostRequirements, hostRoot, isThere, putData, shells, standIn } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

const overlay = 'etc/local.d/05-overlay-mounts.start';
const functions = join(import.meta.dirname, '../../openrc/quantix-functions.sh');

// By semver 2.0.0: left is newer than right.
const newer = [
  ['1.2.10', '1.2.9'],
  ['1.10.0', '1.9.9'],
  ['2.0.0', '1.99.99'],
  ['1.0.0', '1.0.0-rc1'],
  ['1.0.0-rc1', '0.9.9'],
  ['1.0.0-rc.10', '1.0.0-rc.9'],
  ['1.0.0-rc.1', '1.0.0-beta.11'],
  ['1.0.0-beta.11', '1.0.0-beta.2'],
  ['1.0.0-beta.2', '1.0.0-beta'],
  ['1.0.0-alpha.beta', '1.0.0-alpha.1'],
  ['1.0.0-rc-2', '1.0.0-rc'],
  ['1.0.1+build.1', '1.0.0+build.9'],
  ['1.0.0-202611211200001', '1.0.0-202611211200000'],
] as const;
const equal = [
  ['1.2.3', '1.2.3'],
  ['1.2.3+a', '1.2.3+b'],
  ['1.0.0-rc.1', '1.0.0-rc.1'],
] as const;

requires(hostRequirements)('05-overlay-mounts.start', () => {
  describe.each(shells)('in $name', (shell) => {
    test('compares versions by semver, prereleases included', async () => {
      await using root = await hostRoot(shell);
      const cases = [...newer, ...equal].flatMap(([a, b]) => [`${a} ${b}`, `${b} ${a}`]);
      await root.write(
        'compare',
        `. ${functions}\nfor pair in "$@"; do qx_newer \${pair% *} \${pair#* } && echo "$pair"; done\n`,
      );
      const { stdout } = await root.run('compare', cases);
      expect(stdout.split('\n')).toEqual(newer.map(([a, b]) => `${a} ${b}`));
    });

    test('where /quantix has the mark of this host and /data has none, nothing is made in the folder of a failed mount', async () => {
      await using root = await hostRoot(shell);
      const mark = 'quantix-installation.json';
      await root.write(`quantix/limiquantix/${mark}`, '{}\n');
      await rm(join(root.path, 'data'), { recursive: true, force: true });
      await mkdir(join(root.path, 'data'));
      expect((await root.run(overlay)).exitCode).toBe(0);
      expect(await readdir(join(root.path, 'data'))).toEqual([]);
      expect(await root.read('dev/kmsg')).toContain('/data IS NOT MOUNTED');
      await root.write(`data/${mark}`, '{}\n');
      await root.run(overlay);
      expect(await readdir(join(root.path, 'data'))).toContain('updates');
    });

    test('a large executable does not hold up the boot: it is judged by its first bytes', async () => {
      await using root = await hostRoot(shell);
      const program = join(root.path, 'large');
      await writeFile(program, await readFile(process.execPath).then((bytes) => bytes.subarray(0, 64)), {
        mode: 0o755,
      });
      await root.write('judge', `. ${functions}\nqx_usable "$1"\n`);
      expect(await root.run('judge', [program])).toMatchObject({ exitCode: 1 });
      // With holes. Reading it takes a minute even so.
      await truncate(program, 64 * 2 ** 30);
      expect(await root.run('judge', [program])).toMatchObject({ exitCode: 0 });
    }, 30_000);

    test('judges and orders random versions as the agent does', async () => {
      const word = fc.oneof(
        fc.nat(12).map(String),
        fc.constantFrom('rc', 'rc-1', 'alpha', '0a', '01', '', '999999999999999'),
      );
      const version = fc
        .tuple(
          fc.array(fc.nat(11), { minLength: 2, maxLength: 4 }),
          fc.array(word, { maxLength: 3 }),
          fc.constantFrom('', '+b', '+'),
        )
        .map(([parts, words, build]) => `${parts.join('.')}${words.length > 0 ? '-' : ''}${words.join('.')}${build}`);
      const versions = [
        ...fc.sample(version, { numRuns: 150, seed: 7 }),
        '01.0.0',
        '1.0.0 ',
        'v1.0.0',
        `1.0.0-${'a'.repeat(64)}`,
      ];
      const pairs = fc
        .sample(fc.tuple(version, version), { numRuns: 4000, seed: 8 })
        .filter((pair) => pair.every(isVersion));
      expect(pairs.length).toBeGreaterThan(100);
      await using root = await hostRoot(shell);
      await root.write(
        'judge',
        `. ${functions}\nwhile IFS= read -r v; do qx_is_version "$v" && echo "$v"; done <${root.path}/versions
         while read -r a b; do qx_newer $a $b && echo "$a $b"; done <${root.path}/pairs\n`,
      );
      await root.write('versions', versions.map((v) => `${v}\n`).join(''));
      await root.write(
        'pairs',
        pairs
          .slice(0, 150)
          .map((pair) => `${pair.join(' ')}\n`)
          .join(''),
      );
      const { stdout } = await root.run('judge');
      const expected = pairs.slice(0, 150).filter(([a, b]) => isNewer(a, b));
      expect(stdout.split('\n')).toEqual([...versions.filter(isVersion), ...expected.map((pair) => pair.join(' '))]);
    });

    test.each([
      ['1.2.10', '1.2.9', 'data'],
      ['1.2.9', '1.2.10', 'own'],
      ['1.0.0', '1.0.0', 'own'],
      ['1.0.0-rc1', '1.0.0', 'own'],
      ['1.0.0', '1.0.0-rc1', 'data'],
      ['not-a-version', '1.0.0', 'own'],
    ])('/data has %s and the image %s: %s', async (data, own, chosen) => {
      await using root = await hostRoot(shell, own);
      for (const name of ['qx-node', 'qx-console', 'host-ui']) await putData(root, name, data);
      await root.write('usr/share/quantix-host-ui/index.html', 'own');
      await root.run(overlay);
      const folder = join(root.path, chosen === 'data' ? 'data/bin' : 'usr/lib/quantix/bin');
      expect(await links(root)).toEqual([
        join(folder, 'qx-node'),
        join(folder, 'qx-node'),
        join(folder, 'qx-console'),
        join(root.path, chosen === 'data' ? 'data/share' : 'usr/share', 'quantix-host-ui'),
      ]);
    });

    test('defect 29: an old copy in /data never hides what a newer image brings', async () => {
      await using root = await hostRoot(shell, '2.0.0');
      await putData(root, 'qx-node', '1.9.0');
      await putData(root, 'qx-console', '1.9.0');
      await root.run(overlay);
      expect(await root.link('run/quantix/bin/qx-node')).toBe(join(root.path, 'usr/lib/quantix/bin/qx-node'));
      expect(await root.link('run/quantix/bin/qx-console')).toBe(join(root.path, 'usr/lib/quantix/bin/qx-console'));
      expect(await root.read('dev/kmsg')).toContain("1.9.0 in /data is not newer than the image's own 2.0.0");
    });

    test('a version marked bad is not used, a later one is', async () => {
      await using root = await hostRoot(shell);
      await putData(root, 'qx-console', '1.1.0');
      await root.write('data/versions/qx-console.bad', '1.0.9\n1.1.0\n');
      await root.run(overlay);
      expect(await root.link('run/quantix/bin/qx-console')).toBe(join(root.path, 'usr/lib/quantix/bin/qx-console'));
      await putData(root, 'qx-console', '1.1.10');
      await root.run(overlay);
      expect(await root.link('run/quantix/bin/qx-console')).toBe(join(root.path, 'data/bin/qx-console'));
    });

    test('quantix.safe ignores /data', async () => {
      await using root = await hostRoot(shell);
      await putData(root, 'qx-node', '9.0.0');
      await root.write('proc/cmdline', 'quiet quantix.safe quantix.slot=B\n');
      await root.run(overlay);
      expect(await root.link('run/quantix/bin/qx-node')).toBe(join(root.path, 'usr/lib/quantix/bin/qx-node'));
      expect(await root.read('dev/kmsg')).toContain('quantix.safe');
    });

    test('makes the folders of /data, staging and backups for root only', async () => {
      await using root = await hostRoot(shell);
      await root.run(overlay);
      const { stdout } = await execa(
        'stat',
        ['-c', '%a', 'bin', 'share', 'versions', 'updates/staging', 'updates/backup'],
        {
          cwd: join(root.path, 'data'),
        },
      );
      expect(stdout.split('\n')).toEqual(['755', '755', '755', '700', '700']);
    });

    test('without /data, or with one that cannot be written, the image alone is used', async () => {
      await using root = await hostRoot(shell);
      await rm(join(root.path, 'data'), { recursive: true });
      const missing = await root.run(overlay);
      expect(missing.exitCode).toBe(0);
      expect(await isThere(join(root.path, 'data'))).toBe(false);
      expect(await root.link('run/quantix/bin/qx-update')).toBe(join(root.path, 'usr/lib/quantix/bin/qx-node'));

      await mkdir(join(root.path, 'data'));
      await writeFile(join(root.path, 'data/updates'), '');
      const unwritable = await root.run(overlay);
      expect(unwritable.exitCode).toBe(0);
      expect(unwritable.stderr).toContain('/data cannot be written');
    });

    test('run again it follows a change in /data, and says so once', async () => {
      await using root = await hostRoot(shell);
      await root.run(overlay);
      await putData(root, 'host-ui', '1.5.0');
      await root.run(overlay);
      await root.run(overlay);
      expect(await root.link('run/quantix/share/quantix-host-ui')).toBe(join(root.path, 'data/share/quantix-host-ui'));
      expect((await root.read('dev/kmsg'))?.match(/host-ui: 1\.5\.0 in \/data/g)).toHaveLength(1);
    });

    test('pages swapped in by symlink, as updates do it, are used', async () => {
      await using root = await hostRoot(shell);
      await root.write('data/share/.host-ui-1.5.0/index.html', 'new');
      await symlink('.host-ui-1.5.0', join(root.path, 'data/share/quantix-host-ui'));
      await root.write('data/versions/host-ui.version', '1.5.0');
      await root.run(overlay);
      expect(await root.read('run/quantix/share/quantix-host-ui/index.html')).toBe('new');
    });
  });

  test('works while the agent is broken: nothing starts it', async () => {
    const [shell] = shells;
    if (!shell) throw new Error('no shell to test');
    await using root = await hostRoot(shell);
    await root.write('usr/lib/quantix/bin/qx-node', standIn('started >&2; exit 1; #'), 0o755);
    await putData(root, 'qx-node', '1.1.0', 'started >&2; exit 1; #');
    const { exitCode, stderr } = await root.run(overlay);
    expect(exitCode).toBe(0);
    expect(stderr).not.toContain('started');
  });
});

const links = (root: HostRoot): Promise<readonly (string | null)[]> =>
  Promise.all(
    ['bin/qx-node', 'bin/qx-fleet', 'bin/qx-console', 'share/quantix-host-ui'].map((name) =>
      root.link(`run/quantix/${name}`),
    ),
  );
