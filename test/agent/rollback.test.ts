import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { changeBoot } from '../../src/agent/bootenv.ts';
import { confirm } from '../../src/agent/confirm.ts';
import { situation } from '../../src/agent/facts.ts';
import { PATHS } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { reset } from '../../src/agent/reset.ts';
import { rollback } from '../../src/agent/rollback.ts';
import { invalidate } from '../../src/core/boot.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { TestHost } from '../support/agent-host.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  memoryOf,
  rebootInto,
} from '../support/agent-machine.ts';
import { componentsOf, fullRelease } from '../support/agent-powercut.ts';
import { agentSocket } from '../support/agent-socket.ts';
import { expectRefusal } from '../support/attacks.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('the operator takes back', () => {
  const bench = agentBench();
  const reboot = (host: TestHost) => rebootInto(host.root, bench.known());
  const armed = async () => {
    const host = await bench.host([await fullRelease(bench, '2.0.0')]);
    await install(host, {}, {});
    return host;
  };
  const complete = async () => {
    const host = await armed();
    await reboot(host);
    await confirm(host);
    host.outcomes.length = 0;
    return host;
  };
  const withComponents = async (manifest = {}) => {
    const host = await bench.host([await bench.release('1.1.0', { components: componentsOf('1.1.0'), manifest })]);
    await install(host, {}, {});
    host.outcomes.length = 0;
    return host;
  };

  const expectRemembered = async (host: TestHost, version: string) => {
    expect(await journalOf(host.root)).toMatchObject({
      phase: 'rolledBack',
      pending: false,
      error: { code: 'ROLLED_BACK', detail: 'no network' },
    });
    expect((await memoryOf(host.root))?.bad).toMatchObject([{ version, reason: 'no network' }]);
    expect(host.outcomes).toMatchObject([{ result: 'rolled_back', code: 'ROLLED_BACK', release: { version } }]);
    expect(await installedVersions(host.root)).toEqual(await installedBytes(host.root));
    expect(await install(host, {}, {})).toMatchObject({ kind: 'refusal', code: 'TAKEN_BACK' });
  };

  test('a release of components, at once', async () => {
    const host = await withComponents();
    host.services.restarts.length = 0;
    expect(await rollback(host, 'no network')).toEqual({ kind: 'rolled_back', from: '1.1.0', to: '1.0.0' });
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    expect(host.services.restarts).toEqual(['quantix-console', 'quantix-boot', 'quantix-node']);
    await expectRemembered(host, '1.1.0');
  });

  test('a full release: its components at once, its image with the next reboot, and both slots stay good', async () => {
    const host = await complete();
    expect(await rollback(host, 'no network')).toEqual({ kind: 'reboot_required', from: '2.0.0', to: '1.0.0' });
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    expect((await bootState(host.root)).state).toMatchObject({ order: ['A', 'B'], A: { ok: true }, B: { ok: true } });
    await expectRemembered(host, '2.0.0');
    expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
    expect(await confirm(host)).toMatchObject({ code: 'NOTHING_TO_CONFIRM' });
  });

  test('the image of a release whose components were there before: it is told from what to what', async () => {
    const host = await bench.host([await bench.release('2.0.0', { components: componentsOf('2.0.0') })]);
    await install(host, {}, {});
    const whole = {
      components: componentsOf('2.0.0'),
      image: bench.image('2.0.0'),
      manifest: { sequence: 2_000_000_000 },
    };
    host.site.publish(await bench.release('2.0.0', whole));
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    await reboot(host);
    await confirm(host);
    expect(await rollback(host, 'no network')).toEqual({ kind: 'reboot_required', from: '2.0.0', to: '1.0.0' });
  });

  test('by another process than the agent, which has told that it was installed: its status says so at once', async () => {
    const host = await bench.host([await bench.release('1.1.0', { components: componentsOf('1.1.0') })]);
    const agent = createAgent(host);
    await agent.install({});
    expect(await agent.status()).toMatchObject({ status: 'complete', message: 'Updated to version 1.1.0' });
    await rollback(host, 'no network');
    expect(await agent.status()).toEqual({ status: 'idle', message: 'Rolled back from 1.1.0: no network' });
    await agent.check().catch(() => undefined);
    expect(await agent.status()).toMatchObject({
      status: 'idle',
      message: expect.stringContaining('is not installed again by itself'),
    });
  });

  test('an update that was dismissed: the status says all the same that a reboot is due', async () => {
    const host = await complete();
    const status = () => createAgent(host).status();
    expect(await reset(host, { downloads: false, seen: false }, 'root')).toBeNull();
    expect(await status()).toEqual({ status: 'idle' });
    await rollback(host, 'no network');
    expect(await status()).toEqual({ status: 'reboot_required', message: 'Reboot to finish going back to 1.0.0' });
    await reboot(host);
    expect(await status()).toMatchObject({ status: 'idle', message: 'Rolled back from 2.0.0: no network' });
  });

  test('an update that waits for its reboot: it will not boot, and does not come back by itself', async () => {
    const host = await armed();
    expect(await rollback(host, 'no network')).toEqual({ kind: 'rolled_back', from: '2.0.0', to: '1.0.0' });
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    expect((await bootState(host.root)).state).toMatchObject({
      order: ['A', 'B'],
      B: { ok: false, tries: 0 },
      trial: '',
    });
    await expectRemembered(host, '2.0.0');
    expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
  });

  test.each(['before', 'after'] as const)(
    'an update whose trial is going on, %s the gate saw it: a reboot leaves it',
    async (when) => {
      const host = await armed();
      await reboot(host);
      if (when === 'after') {
        host.clock.onSleep = () => Promise.reject(new TypeError('the process ends here'));
        await expect(confirm(host)).rejects.toThrow(TypeError);
        expect(await journalOf(host.root)).toMatchObject({ phase: 'trial' });
        host.clock.onSleep = null;
      }
      expect(await rollback(host, 'no network')).toEqual({ kind: 'reboot_required', from: '2.0.0', to: '1.0.0' });
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
      expect(await reboot(host)).toMatchObject({ slot: 'A', how: 'ok' });
      await expectRemembered(host, '2.0.0');
    },
  );

  test('the last of several releases: the host has again the one before it, and takes what that one may take', async () => {
    const host = await withComponents();
    host.site.publish(await bench.release('1.2.0', { components: componentsOf('1.2.0') }));
    await install(host, {}, {});
    expect(await rollback(host, 'no network')).toMatchObject({ kind: 'rolled_back', from: '1.2.0', to: '1.1.0' });
    expect((await situation(host)).facts.version).toBe('1.1.0');
    const next = { components: componentsOf('1.3.0'), manifest: { min_version: '1.1.0' } };
    host.site.publish(await bench.release('1.3.0', next));
    expect(await install(host, {}, {})).toMatchObject({ kind: 'complete', version: '1.3.0' });
  });

  test('a release that was bad here once and is good now is the committed one again only by itself', async () => {
    const host = await withComponents();
    await rollback(host, 'no network');
    expect(await install(host, { version: '1.1.0' }, {})).toMatchObject({ kind: 'complete' });
    expect(await memoryOf(host.root)).toMatchObject({ committed: { version: '1.1.0' }, bad: [] });
  });

  describe('nothing,', () => {
    const refused = async (host: TestHost): Promise<string> => {
      const before = await journalOf(host.root);
      const result = await rollback(host, 'no network');
      expect(await journalOf(host.root)).toEqual(before);
      return result.kind === 'refusal' ? result.code : result.kind;
    };

    test('when nothing was installed, or all of it was taken back already', async () => {
      expect(await refused(await bench.host())).toBe('NOTHING_TO_ROLL_BACK');
      const host = await withComponents();
      await rollback(host, 'no network');
      expect(await refused(host)).toBe('NOTHING_TO_ROLL_BACK');
    });

    test('below the floor that the release itself raised, of components or of a slot', async () => {
      expect(await refused(await withComponents({ min_rollback_version: '1.1.0' }))).toBe('BELOW_FLOOR');
      const release = { image: bench.image('2.0.0'), manifest: { min_rollback_version: '1.5.0' } };
      const host = await bench.host([await bench.release('2.0.0', release)]);
      await install(host, {}, {});
      await reboot(host);
      await confirm(host);
      expect(await refused(host)).toBe('BELOW_FLOOR');
      expect((await bootState(host.root)).state?.order).toEqual(['B', 'A']);
    });

    test.each([
      ['a program', 'data/updates/backup/qx-console'],
      ['a folder', 'data/share/.host-ui.trees'],
    ])('T44 when the backup of %s is not what was replaced any more', async (_what, folder) => {
      const host = await withComponents();
      const [name = ''] = (await readdir(join(host.root, folder))).sort();
      const [file = ''] = await readdir(join(host.root, folder, name));
      await writeFile(join(host.root, folder, name, file), 'evil');
      expect(await refused(host)).toBe('HASH_MISMATCH');
      const { ask } = await agentSocket(host);
      const asked = async () => ({ kind: 'refusal', code: (await ask('POST', 'rollback', {})).json.code });
      const event = await expectRefusal(host, 'HASH_MISMATCH', asked);
      expect(event).toMatchObject({ event: 'request_refused', fields: { route: 'rollback' } });
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.1.0'));
    });

    test('when the other slot holds nothing that may boot', async () => {
      const host = await complete();

      await changeBoot(host, (state) => invalidate(state, 'A'));
      expect(await refused(host)).toBe('NOTHING_TO_ROLL_BACK');
    });

    test('while an update holds the lock', async () => {
      const host = await complete();
      const unlock = await host.files.lock(PATHS.lock);
      expect(await refused(host)).toBe('BUSY');
      await unlock?.();
    });
  });
});
