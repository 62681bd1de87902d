import { lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import { install } from '../../src/agent/install.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import { bootState, installedBytes, journalOf, systemOn } from '../support/agent-machine.ts';
import { componentsOf } from '../support/agent-powercut.ts';
import { agentSocket } from '../support/agent-socket.ts';
import { codeOf, expectGivenUp, expectRefusal } from '../support/attacks.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/**
 * Others on the same machine: who swap what was verified, who plant links, who ask at the same time. T33, the power that goes at
 * every step, is in `test/agent/powercut-*.test.ts` and `test/delivery/*-powercut.test.ts`.
 */

const STAGING = 'data/updates/staging';

requires({ commands: IMAGE_COMMANDS })('on one machine', () => {
  const bench = agentBench();
  const consoleOnly = () => bench.release('2.0.0', { components: { 'qx-console': '2.0.0' } });
  const imageOnly = () => bench.release('2.0.0', { image: bench.image('2.0.0') });

  describe('T31 what was verified is swapped before it is used', () => {
    const evil = Buffer.from('evil');
    const swaps: readonly [string, (path: string) => Promise<void>, readonly string[]][] = [
      ['renamed over', async (path) => replaceBy(path, evil), ['SIZE_MISMATCH']],
      ['written into', async (path) => writeFile(path, flipped(await readFile(path))), ['HASH_MISMATCH']],
      [
        'replaced by a symlink',
        async (path) => {
          await rename(path, `${path}.real`);
          await symlink(`${path}.real`, path);
        },
        ['IO'],
      ],
      [
        'hidden by a symlink in the place of the folder',
        async (path) => {
          await rename(dirname(path), `${dirname(path)}.real`);
          await mkdir(`${dirname(path)}.other`);
          await writeFile(path.replace('staging/', 'staging.other/'), evil);
          await symlink(`${dirname(path)}.other`, dirname(path));
        },
        ['SIZE_MISMATCH'],
      ],
    ];

    test.each(swaps)('T31 an archive that is %s', async (_name, swap, [code = '']) => {
      const host = await bench.host([await consoleOnly()]);
      const extract: TestHost['archive']['extract'] = async (...args) => {
        await swap(join(host.root, STAGING, 'qx-console.tar.zst'));
        return host.archive.extract(...args);
      };
      await expectGivenUp(host, code, { ports: { archive: { extract } } });
    });

    test.each(swaps)('T31 an image that is %s', async (_name, swap, [code = '']) => {
      const host = await bench.host([await imageOnly()]);
      const openRange: TestHost['ranges']['openRange'] = async (...args) => {
        await swap(join(host.root, STAGING, 'system.squashfs'));
        return host.ranges.openRange(...args);
      };
      // The slot says "not ok" before it is written, and stays so where writing had begun.
      await expectGivenUp(host, code, { ports: { ranges: { openRange } }, except: ['slots/b', 'boot'] });
      await expectWholeOrOff(host);
    });

    test('T31 an image that is written into through an open descriptor, while the slot is written', async () => {
      const host = await bench.host([await imageOnly()]);
      const path = join(host.root, STAGING, 'system.squashfs');
      const openForWriting: TestHost['disk']['openForWriting'] = async (slot) => {
        await writeFile(path, flipped(await readFile(path)));
        return host.disk.openForWriting(slot);
      };
      const ports = { disk: { ...host.disk, openForWriting } };
      const code = await codeOf(() => install({ ...host, ...ports }, {}, {}));
      // What was read before is what was signed: then the slot has the signed image, whatever the file has now.
      const isSigned = systemOn(host.root, 'B', bench.known()) === '2.0.0';
      expect(code).toBe(isSigned ? null : 'HASH_MISMATCH');
      await expectWholeOrOff(host);
    });

    const expectWholeOrOff = async (host: TestHost) => {
      const { state } = await bootState(host.root);
      if (state?.B.ok) expect(systemOn(host.root, 'B', bench.known())).toBe('1.0.0');
      if (state?.trial !== '') expect(systemOn(host.root, 'B', bench.known())).toBe('2.0.0');
    };
  });

  describe('T32 planted symlinks', () => {
    test.each<[string, 'file' | 'folder', string | null]>([
      [STAGING, 'folder', 'IO'],
      [`${STAGING}/qx-console.tar.zst`, 'file', null],
      ['quantix/ab-update-state.json', 'file', 'IO'],
      ['quantix/limiquantix/state.json', 'file', 'IO'],
      ['quantix/limiquantix/history.json', 'file', null],
      ['data/versions/qx-console.version', 'file', null],
      ['data/bin/qx-console', 'file', 'PATH_OCCUPIED'],
      ['data/updates/backup', 'folder', 'IO'],
      ['data/updates/backup/qx-console', 'folder', 'IO'],
      ['data/updates/backup/qx-console/.unfinished', 'folder', null],
      ['run/quantix/update.lock', 'file', 'IO'],
    ])('T32 at %s (a %s)', async (path, kind, code) => {
      const host = await bench.host([await consoleOnly()]);
      const victim = join(host.root, 'victim');
      await mkdir(victim, { mode: 0o700 });
      await writeFile(join(victim, 'precious'), 'precious');
      const at = join(host.root, path);
      await mkdir(dirname(at), { recursive: true });
      await rm(at, { force: true });
      await symlink(kind === 'folder' ? victim : join(victim, 'precious'), at);
      const outcome = await codeOf(() => install(host, {}, {}));
      const { events, verdict } = await readAudit(host.files);
      expect([outcome, await readFile(join(victim, 'precious'), 'utf8')]).toEqual([code, 'precious']);
      expect(await readdir(victim)).toEqual(['precious']);
      const installed = path === 'data/bin/qx-console' ? 'torn' : '1.0.0';
      expect((await installedBytes(host.root))['qx-console']).toBe(code === null ? '2.0.0' : installed);
      expect(verdict.ok).toBe(true);
      expect(events.filter((event) => event.code !== undefined).map((event) => event.code)).toEqual(
        code === null ? [] : [code],
      );
    });

    test.each(['quantix/limiquantix/audit', 'quantix/limiquantix/audit/head'])(
      'T32 at %s: not followed, and that the record is not kept is in the log',
      async (path) => {
        const host = await bench.host([await consoleOnly()]);
        const victim = join(host.root, 'victim');
        await mkdir(victim);
        await mkdir(dirname(join(host.root, path)), { recursive: true });
        await symlink(path.endsWith('head') ? join(victim, 'head') : victim, join(host.root, path));
        await install(host, {}, {});
        expect(await lstat(join(victim, 'head')).catch(() => null)).toBeNull();
        expect(host.log.lines.map(({ event }) => event)).toContain('audit_not_kept');
      },
    );
  });

  describe('T34 two at once', () => {
    test('T34 two agents: one installs, the other is refused, and both are in one log', async () => {
      const first = await bench.host([await consoleOnly()]);
      const second = await openHost({ root: first.root, site: first.site });
      const codes = await Promise.all([first, second].map((host) => codeOf(() => install(host, {}, {}))));
      expect(codes.toSorted()).toEqual(['BUSY', null].toSorted());
      const { events, verdict } = await readAudit(first.files);
      expect(verdict.ok).toBe(true);
      expect(events.filter(({ code }) => code !== undefined).map(({ code }) => code)).toEqual(['BUSY']);
      expect(await journalOf(first.root)).toMatchObject({ phase: 'complete' });
    });

    test('T34 two clients of one agent: the second apply is answered 409, once on record', async () => {
      const host = await bench.host([await consoleOnly()]);
      const { ask } = await agentSocket(host);
      const answers = await Promise.all([ask('POST', 'apply', {}), ask('POST', 'apply', {})]);
      expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 409]);
      const { events, verdict } = await readAudit(host.files);
      expect(verdict.ok).toBe(true);
      expect(events.filter(({ code }) => code !== undefined)).toMatchObject([
        { event: 'request_refused', code: 'BUSY', fields: { route: 'apply' } },
      ]);
      expect((await installedBytes(host.root))['qx-console']).toBe('2.0.0');
    });

    test('T34 a cancel between two swaps: all are put back, and one event says so', async () => {
      const host = await bench.host([await bench.release('2.0.0', { components: componentsOf('2.0.0') })]);
      const stop = new AbortController();
      const progress = ({ phase, name }: { phase: string; name: string }) => {
        if (phase === 'applying' && name === 'qx-console') stop.abort();
      };
      const act = () => install(host, {}, { signal: stop.signal, progress });
      await expectRefusal(host, 'CANCELLED', act, ['data/updates', 'data/share', 'quantix']);
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    });

    test('T34 a cancel after the last swap comes too late, and nothing is torn', async () => {
      const host = await bench.host([await consoleOnly()]);
      const stop = new AbortController();
      const restart: TestHost['services']['restart'] = async (name) => {
        stop.abort();
        return host.services.restart(name);
      };
      const act = () => install({ ...host, services: { ...host.services, restart } }, {}, { signal: stop.signal });
      const code = await codeOf(act);
      expect((await installedBytes(host.root))['qx-console']).toBe(code === null ? '2.0.0' : '1.0.0');
      expect(await journalOf(host.root)).toMatchObject({ phase: code === null ? 'complete' : 'failed' });
    });
  });
});

async function replaceBy(path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, bytes);
  await rename(`${path}.new`, path);
}

/** Near its end, behind everything that is read first. */
const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === bytes.length - 20 ? byte ^ 1 : byte));
