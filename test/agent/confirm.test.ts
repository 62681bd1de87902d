import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { confirm } from '../../src/agent/confirm.ts';
import { PATHS } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { markSlot } from '../../src/agent/mark.ts';
import { recover } from '../../src/agent/recover.ts';
import { QxError } from '../../src/errors.ts';
import { decodeBoot } from '../../src/format/grubenv.ts';
import { TRIES_PATH } from '../../src/format/tries.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import { bootState, installedBytes, journalOf, memoryOf, rebootInto } from '../support/agent-machine.ts';
import { componentsOf, fullRelease } from '../support/agent-powercut.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('after a reboot', () => {
  const bench = agentBench();
  const reboot = (host: TestHost) => rebootInto(host.root, bench.known());
  const installed = async () => {
    const host = await bench.host([await fullRelease(bench, '2.0.0')]);
    await install(host, {}, {});
    return host;
  };
  const onTrial = async () => {
    const host = await installed();
    expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
    return host;
  };

  describe('on the new slot, which is well', () => {
    test('it is marked good, the journal finished, the floor raised and the deadline ended', async () => {
      const host = await onTrial();
      const result = await confirm(host);
      expect(result).toEqual({ kind: 'confirmed', version: '2.0.0', slot: 'B', warnings: [] });
      expect((await bootState(host.root)).state).toEqual({
        order: ['B', 'A'],
        A: { ok: true, tries: 0 },
        B: { ok: true, tries: 0 },
        trial: '',
        failed: '',
      });
      const journal = await journalOf(host.root);
      expect(journal).toMatchObject({ phase: 'complete', pending: false, boot_attempts: 1, error: null });
      expect(await memoryOf(host.root)).toMatchObject({ floor: '1.0.0', committed: { version: '2.0.0' }, bad: [] });
      expect(await readFile(join(host.root, 'run/quantix/confirmed'), 'utf8')).toBe(`${journal?.id}\n`);
      expect(host.outcomes).toMatchObject([{ result: 'complete', id: journal?.id }]);
      expect(host.machine.reboots).toBe(0);
    });

    test('asked again there is nothing to confirm, and nothing is told twice', async () => {
      const host = await onTrial();
      await confirm(host);
      expect(await confirm(host)).toMatchObject({ kind: 'refusal', code: 'NOTHING_TO_CONFIRM' });
      expect(host.outcomes).toHaveLength(1);
    });

    test('in a folder, which is started once more with the words of its trial, that is no contradiction', async () => {
      const host = await onTrial();
      await confirm(host);
      const cmdline = join(host.root, 'proc/cmdline');
      await writeFile(cmdline, (await readFile(cmdline, 'utf8')).replace(/ quantix\.tries=\d/, ''));
      await rm(join(host.root, 'run'), { recursive: true });
      await recover(host);
      expect(await createAgent(host).status()).toMatchObject({ status: 'complete' });
    });

    test('a clock that nobody vouches for is a warning and no more', async () => {
      const host = await onTrial();
      const clock = { ...host.clock, isSynchronised: async () => false };
      expect(await confirm({ ...host, clock })).toMatchObject({ kind: 'confirmed', warnings: [{ name: 'time' }] });
    });

    test.each<[what: string, own: string | null, used: string | null, warnings: readonly unknown[]]>([
      ['is the one of the image', 'set timeout=2', 'set timeout=2', []],
      ['is another one', 'set timeout=2', 'set timeout=3', [{ name: 'grub', ok: false, fatal: false }]],
      ['is not there', 'set timeout=2', null, [{ name: 'grub' }]],
      ['is there, and the image has none', null, 'set timeout=2', []],
    ])("GRUB's own file %s: a warning at the most", async (_what, own, used, warnings) => {
      const host = await onTrial();
      for (const [path, text] of [
        ['usr/lib/quantix/grub.cfg', own],
        ['boot/grub/grub.cfg', used],
      ] as const) {
        await rm(join(host.root, path), { force: true });
        await mkdir(dirname(join(host.root, path)), { recursive: true });
        if (text !== null) await writeFile(join(host.root, path), text);
      }
      expect(await confirm(host)).toMatchObject({ kind: 'confirmed', warnings });
    });

    test('one probe that fails at first is waited for', async () => {
      const host = await onTrial();
      host.socket.answers = false;
      host.clock.onSleep = () => void Object.assign(host.socket, { answers: true });
      expect(await confirm(host)).toMatchObject({ kind: 'confirmed' });
    });

    test('a service manager that is too busy to answer at first is asked again', async () => {
      const host = await onTrial();
      const states = [new QxError('IO', 'rc-service did not end within 10000 ms')];
      const state: TestHost['services']['state'] = async (name) => {
        const failure = states.pop();
        if (failure !== undefined) throw failure;
        return host.services.state(name);
      };
      const services = { ...host.services, standIn: null, state };
      expect(await confirm({ ...host, services })).toMatchObject({ kind: 'confirmed' });
    });

    test('the second try that comes up is told from the first', async () => {
      const host = await onTrial();
      await reboot(host);
      await confirm(host);
      expect(await journalOf(host.root)).toMatchObject({ phase: 'complete', boot_attempts: 2 });
    });
  });

  describe('on the new slot, which is not well', () => {
    test.each([
      ['the agent does not answer', 'agent', (host: TestHost) => void Object.assign(host.socket, { answers: false })],
      ['its service is down', 'service', (host: TestHost) => host.services.broken.add('qx-node 2.0.0')],
    ])(
      '%s, in each of three tries: then the old slot boots, and there the release is undone and remembered',
      async (_what, probe, harm) => {
        const host = await installed();
        for (const attempt of [1, 2, 3]) {
          expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
          const next = await openHost(host);
          harm(next);
          await next.services.restart('quantix-node');
          const startMs = next.clock.monotonicMs();
          const kind = attempt === 3 ? 'rolling_back' : 'trying_again';
          const expected = { kind, version: '2.0.0', attempt, attempts: 3, failed: [{ name: probe }] };
          expect(await confirm(next)).toMatchObject(expected);
          expect(next.clock.monotonicMs() - startMs).toBeGreaterThanOrEqual(next.config.healthTimeoutMs);
          expect(next.machine.reboots).toBe(1);
          expect(await next.files.info('/run/quantix/confirmed')).toBeNull();
        }

        expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
        const next = await openHost(host);
        expect(await confirm(next)).toMatchObject({ code: 'NOTHING_TO_CONFIRM' });
        expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack', error: { code: 'UNHEALTHY' } });
        expect((await journalOf(host.root))?.error?.detail).toContain(`${probe}: `);
        expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
        expect(await memoryOf(host.root)).toMatchObject({ floor: null, committed: null, bad: [{ version: '2.0.0' }] });
        expect(next.outcomes).toMatchObject([{ result: 'rolled_back', code: 'UNHEALTHY' }]);
        expect(await install(next, {}, {})).toMatchObject({ kind: 'refusal', code: 'RELEASE_BAD' });
      },
    );
  });

  test('not well in the first try, and in the second: it is kept, and nothing is held against it', async () => {
    const host = await onTrial();
    host.socket.answers = false;
    expect(await confirm(host)).toMatchObject({ kind: 'trying_again', attempt: 1 });
    expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
    expect(await confirm(await openHost(host))).toMatchObject({ kind: 'confirmed', slot: 'B' });
    expect(await journalOf(host.root)).toMatchObject({ phase: 'complete', boot_attempts: 2, error: null });
    expect((await memoryOf(host.root))?.bad).toEqual([]);
  });

  test('health_attempts says how many tries the gate may turn down', async () => {
    const host = await onTrial();
    const next = await openHost({ ...host, settings: ['health_attempts: 1'] });
    next.socket.answers = false;
    expect(await confirm(next)).toMatchObject({ kind: 'rolling_back', attempt: 1, attempts: 1 });
    expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
  });

  describe('three tries that no health gate has ended', () => {
    const over = async (during: (host: TestHost, id: string) => Promise<unknown>) => {
      const host = await installed();
      const id = (await journalOf(host.root))?.id ?? '';
      for (let boot = 0; boot < 3; boot++) expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
      await during(host, id);
      expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
      const next = await openHost(host);
      expect(await recover(next)).toBe('rolled-back');
      return next;
    };
    const noted = (host: TestHost, lines: string) =>
      host.files.writeAtomic(TRIES_PATH, new TextEncoder().encode(lines), 0o600);

    test('cut short each time: the release is held back for an hour, then taken again', async () => {
      const next = await over((host, id) => noted(host, `${id} started\n`.repeat(3)));
      expect(next.outcomes).toMatchObject([{ result: 'rolled_back', code: 'TRIAL_INTERRUPTED' }]);
      const refused = {
        kind: 'refusal',
        code: 'RELEASE_BAD',
        detail: expect.stringContaining('again by itself after'),
      };
      expect(await install(next, {}, {})).toMatchObject(refused);
      next.clock.advance(3_600_000);
      expect(await install(next, {}, {})).toMatchObject({ kind: 'reboot_required', version: '2.0.0' });
    });

    test('ended by the deadline: the release is bad', async () => {
      const next = await over((host, id) => noted(host, `${id} started\n${id} late 600\n`));
      expect((await memoryOf(next.root))?.bad).toMatchObject([
        { version: '2.0.0', reason: expect.stringContaining('within 600 s') },
      ]);
      next.clock.advance(1000 * 3_600_000);
      expect(await install(next, {}, {})).toMatchObject({ code: 'RELEASE_BAD' });
    });

    test('on a disk that lost bytes of the slot: the disk is named, and nothing is held against the release', async () => {
      const next = await over(async ({ root }) => {
        const slot = await open(join(root, 'slots/b'), 'r+');
        await slot.write(new Uint8Array(8).fill(0x5a), 0, 8, 600_000);
        await slot.close();
      });
      expect(next.outcomes).toMatchObject([{ result: 'rolled_back', code: 'READBACK_MISMATCH' }]);
      expect((await memoryOf(next.root))?.bad).toMatchObject([{ version: '2.0.0', times: 1 }]);
    });
  });

  test('three boots that come to nothing: the fourth is the old slot, where the release is undone and remembered', async () => {
    const host = await installed();
    for (let boot = 0; boot < 3; boot++) expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
    expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
    const next = await openHost(host);
    expect(await recover(next)).toBe('rolled-back');
    expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack', pending: false });
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    expect((await memoryOf(host.root))?.bad).toMatchObject([{ version: '2.0.0' }]);
    expect(next.outcomes).toMatchObject([{ result: 'rolled_back' }]);
    expect(await recover(next)).toBe('nothing');
    expect(next.outcomes).toHaveLength(1);
  });

  describe('restarted into the old slot while the new one waits', () => {
    /** As by a person at the menu, or by a GRUB that reads something else than /boot. */
    const bootA = async ({ root }: TestHost) => {
      await writeFile(join(root, 'proc/cmdline'), 'quantix.slot=A quantix.env=grubenv\n');
      await writeFile(join(root, 'etc/quantix-version'), '1.0.0\n');
      await rm(join(root, 'run'), { recursive: true, force: true });
    };

    test('without a try: one such boot ends the update, and it is not taken again at once', async () => {
      const host = await installed();
      await bootA(host);
      const next = await openHost(host);
      expect(await recover(next)).toBe('waiting-for-reboot');
      const { state } = await bootState(host.root);
      expect(state).toMatchObject({ order: ['A', 'B'], trial: '', B: { ok: false, tries: 0 } });
      expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', error: { code: 'TRIAL_PASSED_OVER' } });
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
      expect(next.outcomes).toMatchObject([{ result: 'failed', code: 'TRIAL_PASSED_OVER' }]);
      expect(await install(next, {}, {})).toMatchObject({ code: 'RELEASE_BAD' });
      next.clock.advance(3_600_000);
      expect(await install(next, {}, {})).toMatchObject({ kind: 'reboot_required' });
    });

    test('after a try: it still waits, since GRUB does go by it', async () => {
      const host = await onTrial();
      await bootA(host);
      expect(await recover(await openHost(host))).toBe('waiting-for-reboot');
      expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
    });

    test('an agent that was only restarted ends nothing', async () => {
      const host = await installed();
      expect(await recover(await openHost(host))).toBe('waiting-for-reboot');
      expect(await journalOf(host.root)).toMatchObject({ phase: 'armed' });
    });
  });

  test('marked good before its journal was finished: that is all that is left to do', async () => {
    const host = await onTrial();
    const { boot } = host;
    const write = async (...args: Parameters<typeof boot.write>) => {
      await boot.write(...args);
      if (args[0] === 'grubenv.bak' && decodeBoot(args[1])?.B.ok === true) throw new TypeError('the process ends here');
    };
    await expect(confirm({ ...host, boot: { ...boot, write } })).rejects.toThrow(TypeError);
    expect(await journalOf(host.root)).toMatchObject({ phase: 'trial' });
    const next = await openHost(host);
    expect(await confirm(next)).toMatchObject({ kind: 'confirmed', slot: 'B' });
    expect(await journalOf(host.root)).toMatchObject({ phase: 'complete' });
  });

  test('marked good by hand while it was on trial: the update is complete', async () => {
    const host = await onTrial();
    expect(await markSlot(host, 'good', 'booted')).toMatchObject({ kind: 'marked', next: 'B' });
    expect(await journalOf(host.root)).toMatchObject({ phase: 'complete' });
    expect(await confirm(host)).toMatchObject({ code: 'NOTHING_TO_CONFIRM' });
  });

  test('an ordinary boot, one that waits for its reboot, and a held lock confirm nothing', async () => {
    const ordinary = await bench.host();
    expect(await confirm(ordinary)).toMatchObject({ code: 'NOTHING_TO_CONFIRM' });
    const waiting = await installed();
    expect(await confirm(waiting)).toMatchObject({ code: 'NOTHING_TO_CONFIRM' });
    expect(await journalOf(waiting.root)).toMatchObject({ phase: 'armed' });
    const trial = await onTrial();
    const unlock = await trial.files.lock(PATHS.lock);
    expect(await confirm(trial)).toMatchObject({ code: 'BUSY' });
    await unlock?.();
  });

  test('nothing is installed while the running slot is on trial', async () => {
    const host = await onTrial();
    host.site.publish(await fullRelease(bench, '3.0.0'));
    expect(await install(host, {}, {})).toMatchObject({ kind: 'refusal', code: 'ON_TRIAL' });
  });

  test('an update that was interrupted is told as failed', async () => {
    const host = await bench.host([await fullRelease(bench, '2.0.0')]);
    const stuck = new Promise<void>((atArtifact) => {
      const http: TestHost['http'] = {
        get: (url, request) => {
          if (!url.includes('.tar.zst')) return host.site.get(url, request);
          atArtifact();
          return new Promise(() => undefined);
        },
      };
      void install({ ...host, http }, {}, {});
    });
    await stuck;
    const next = await openHost(host);
    await recover(next);
    expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', error: { code: 'INTERRUPTED' } });
    expect(next.outcomes).toMatchObject([{ result: 'failed', code: 'INTERRUPTED' }]);
  });
});
