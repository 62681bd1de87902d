import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { confirm } from '../../src/agent/confirm.ts';
import { settleAtStart } from '../../src/agent/daemon.ts';
import { download } from '../../src/agent/download.ts';
import { lookAtHealth } from '../../src/agent/health.ts';
import { install } from '../../src/agent/install.ts';
import { acceptMount } from '../../src/agent/installation.ts';
import { markSlot } from '../../src/agent/mark.ts';
import { mountStates, mountTrouble } from '../../src/agent/mounts.ts';
import { recover } from '../../src/agent/recover.ts';
import { rollback } from '../../src/agent/rollback.ts';
import { freshState } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost, type World } from '../support/agent-host.ts';
import { journalOf, rebootInto } from '../support/agent-machine.ts';
import { fullRelease } from '../support/agent-powercut.ts';
import { readTree } from '../support/component-host.ts';
import { mount } from '../support/disk-tree.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

const MARK = 'quantix-installation.json';

requires({ commands: IMAGE_COMMANDS })('what a host keeps its state on', () => {
  const bench = agentBench();

  /** One that was never updated. */
  const fresh = async (world: Partial<World> = {}): Promise<TestHost> => {
    const host = await bench.host([await fullRelease(bench, '2.0.0')], world);
    for (const copy of ['grubenv', 'grubenv.bak'])
      await writeFile(join(host.root, 'boot/grub', copy), encodeBoot(freshState('A')));
    return host;
  };
  const started = async (world: Partial<World> = {}): Promise<TestHost> => {
    const host = await fresh(world);
    await settleAtStart(host);
    return host;
  };
  /** What a mount that failed leaves. */
  const unmount = async ({ root }: TestHost, path: string): Promise<void> => {
    await rename(join(root, path), join(root, `real-${path}`));
    await mkdir(join(root, path));
  };
  const remount = async ({ root }: TestHost, path: string): Promise<void> => {
    await rm(join(root, path), { recursive: true });
    await rename(join(root, `real-${path}`), join(root, path));
  };
  const states = async (host: TestHost) => (await mountStates(host)).map(({ path, state }) => `${path} ${state}`);

  test('is marked once, when the agent first starts on a new host', async () => {
    const host = await started();
    expect(await states(host)).toEqual(['/boot mounted', '/quantix mounted', '/data mounted']);
    const read = () =>
      Promise.all(
        ['boot/grub', 'quantix/limiquantix', 'data'].map((folder) => readFile(join(host.root, folder, MARK), 'utf8')),
      );
    const before = await read();
    expect(new Set(before).size).toBe(1);
    await settleAtStart(host);
    expect(await read()).toEqual(before);
  });

  test('on a host of before: once its boot environment and its journal agree', async () => {
    const host = await bench.host([await fullRelease(bench, '2.0.0')]);
    await settleAtStart(host);
    expect(await states(host)).toEqual(['/boot unmarked', '/quantix unmarked', '/data unmarked']);
    await install(host, {}, {});
    await settleAtStart(host);
    expect(await states(host)).toEqual(['/boot mounted', '/quantix mounted', '/data mounted']);
  });

  test('never in memory: a host whose /data was not mounted at its very first start is not marked', async () => {
    const host = await fresh();
    await mount(
      host.root,
      [
        ['/', '0:20'],
        ['/boot', '8:1'],
        ['/quantix', '8:4'],
        ['/data', '0:21'],
      ],
      'tmpfs',
    );
    await settleAtStart(host);
    expect(await states(host)).toContain('/data missing');
    await mount(host.root, [
      ['/', '0:20'],
      ['/boot', '8:1'],
      ['/quantix', '8:4'],
      ['/data', '8:5'],
    ]);
    await settleAtStart(host);
    expect(await states(host)).toEqual(['/boot mounted', '/quantix mounted', '/data mounted']);
  });

  describe('where /quantix is missing', () => {
    test('nothing is begun anew in it, by whatever is asked', async () => {
      const host = await started();
      await unmount(host, 'quantix');
      const refused = {
        code: 'MOUNT_MISSING',
        message: expect.stringContaining('/quantix is not mounted'),
        next: expect.stringContaining('mount /quantix'),
      };
      for (const act of [
        () => install(host, {}, {}),
        () => download(host, {}, {}),
        () => confirm(host),
        () => rollback(host, 'why'),
        () => markSlot(host, 'good', 'booted'),
        () => recover(host),
      ])
        await expect(act()).rejects.toMatchObject(refused);
      await settleAtStart(host);
      expect(await readTree(join(host.root, 'quantix'))).toEqual({});
      expect(await createAgent(host).status()).toMatchObject({
        status: 'error',
        message: expect.stringContaining('/quantix is not mounted'),
      });
      await remount(host, 'quantix');
      expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    });
  });

  describe('where /data is missing', () => {
    test('nothing is downloaded into the folder, and the host is not healthy', async () => {
      const host = await started();
      await unmount(host, 'data');
      for (const act of [() => install(host, {}, {}), () => download(host, {}, {})])
        await expect(act()).rejects.toMatchObject({ code: 'MOUNT_MISSING' });
      expect(await readTree(join(host.root, 'data'))).toEqual({});
      const { healthy, probes } = await lookAtHealth(host, {});
      expect([healthy, probes.find(({ name }) => name === 'mounts')]).toMatchObject([false, { ok: false }]);
    });

    test('in a trial: the old image boots again, and what came with the image is taken back once /data is there', async () => {
      const host = await started({ settings: ['health_attempts: 1'] });
      await install(host, {}, {});
      expect(await rebootInto(host.root, bench.known())).toMatchObject({ slot: 'B' });
      await unmount(host, 'data');
      expect(await confirm(host)).toMatchObject({ kind: 'rolling_back', failed: [{ name: 'mounts' }] });
      expect(await rebootInto(host.root, bench.known())).toMatchObject({ slot: 'A', how: 'ok' });
      await expect(recover(host)).rejects.toMatchObject({ code: 'MOUNT_MISSING' });
      expect(await readTree(join(host.root, 'data'))).toEqual({});
      await remount(host, 'data');
      await recover(host);
      expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack' });
    });
  });

  test('of another host is told as that, and nothing is installed', async () => {
    const [host, other] = [await started(), await started()];
    await rm(join(host.root, 'data'), { recursive: true });
    await rename(join(other.root, 'data'), join(host.root, 'data'));
    expect((await mountTrouble(host))?.message).toContain('/data belongs to another installation');
    await expect(install(host, {}, {})).rejects.toMatchObject({ code: 'MOUNT_MISSING' });
  });

  describe('a person', () => {
    test('accepts a new disk, with a reason that is in the audit log', async () => {
      const host = await started();
      await unmount(host, 'data');
      const agent = createAgent(host);
      await agent.download({});
      expect(await agent.status()).toMatchObject({ status: 'error', message: expect.stringContaining('/data is not') });
      await acceptMount(host, '/data', 'new disk', 'root');
      expect(await agent.status()).toEqual({ status: 'idle' });
      expect(await states(host)).toEqual(['/boot mounted', '/quantix mounted', '/data mounted']);
      const audit = await readTree(join(host.root, 'quantix/limiquantix/audit'));
      expect(Object.values(audit).join('')).toContain('"event":"mount_accepted"');
      expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    });

    test('accepts nothing on a host without any mark: one alone would make the others missing', async () => {
      const host = await fresh();
      await expect(acceptMount(host, '/data', 'why', 'root')).rejects.toMatchObject({
        code: 'NOT_FOUND',
        next: expect.stringContaining('start the agent'),
      });
      expect(await states(host)).toEqual(['/boot unmarked', '/quantix unmarked', '/data unmarked']);
    });

    test('accepts no memory, nothing that is none of ours, and nothing else while /quantix is missing', async () => {
      const host = await started();
      await expect(acceptMount(host, '/srv', 'why', 'root')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await mount(
        host.root,
        [
          ['/', '8:1'],
          ['/data', '0:21'],
        ],
        'tmpfs',
      );
      await rm(join(host.root, 'data', MARK));
      await expect(acceptMount(host, '/data', 'why', 'root')).rejects.toMatchObject({
        code: 'MOUNT_MISSING',
        message: expect.stringContaining('lies in memory'),
      });
      await mount(host.root, [['/', '8:1']]);
      await unmount(host, 'quantix');
      await expect(acceptMount(host, '/data', 'why', 'root')).rejects.toMatchObject({
        message: expect.stringContaining('/quantix is not mounted'),
      });
      await acceptMount(host, '/quantix', 'new disk', 'root');
      await acceptMount(host, '/data', 'new disk', 'root');
      expect(await states(host)).toEqual(['/boot mounted', '/quantix mounted', '/data mounted']);
    });
  });

  test('a volume of the settings is marked once it is there, and missed from then on', async () => {
    const settings = ['storage_location: volume', 'volume_path: /srv/updates'];
    const host = await started({ settings });
    expect(await states(host)).toContain('/srv/updates mounted');
    await unmount(host, 'srv/updates').catch(() => undefined);
    await rm(join(host.root, 'srv/updates', MARK), { force: true });
    expect(await states(host)).toContain('/srv/updates missing');
    await expect(download(host, {}, {})).rejects.toMatchObject({
      message: expect.stringContaining('/srv/updates is not mounted'),
    });
  });

  test('a new volume is no reason to mark a /data that is missing', async () => {
    const host = await started();
    await unmount(host, 'data');
    const settings = ['storage_location: volume', 'volume_path: /srv/updates'];
    const again = await openHost({ ...host, settings });
    await settleAtStart(again);
    expect(await states(again)).toEqual(expect.arrayContaining(['/data missing', '/srv/updates mounted']));
  });

  test('power that fails while it is marked: nothing is missed, and the next start marks the rest', async () => {
    for (let cut = 1; ; cut++) {
      const host = await fresh();
      const state = { writes: 0 };
      const writeAtomic: TestHost['files']['writeAtomic'] = async (path, ...rest) => {
        if (path.endsWith(MARK) && ++state.writes === cut) throw new Error('the power fails');
        await host.files.writeAtomic(path, ...rest);
      };
      await settleAtStart({ ...host, files: { ...host.files, writeAtomic } });
      if (state.writes < cut) break;
      expect([cut, await mountTrouble(host)]).toEqual([cut, null]);
      await settleAtStart(host);
      expect(await states(host)).toEqual(['/boot mounted', '/quantix mounted', '/data mounted']);
      await unmount(host, 'data');
      expect(await states(host)).toContain('/data missing');
    }
  });

  test('of a system that our GRUB did not start nobody asks', async () => {
    const host = await started();
    await writeFile(join(host.root, 'proc/cmdline'), 'root=/dev/sda1\n');
    await unmount(host, 'data');
    expect(await mountStates(host)).toEqual([]);
  });
});
