import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { confirm } from '../../src/agent/confirm.ts';
import { ordinaryBoot } from '../../src/agent/health.ts';
import { install } from '../../src/agent/install.ts';
import { markSlot } from '../../src/agent/mark.ts';
import { recover } from '../../src/agent/recover.ts';
import { rollback } from '../../src/agent/rollback.ts';
import { slotTable } from '../../src/agent/slots.ts';
import { decodeBoot } from '../../src/format/grubenv.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import { bootState, journalOf, memoryOf, rebootInto } from '../support/agent-machine.ts';
import { fullRelease } from '../support/agent-powercut.ts';
import { addDisk, mountBoot } from '../support/disk-tree.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** A host whose disks are real tables in files, as GRUB named their partitions: what it does when there are more than it thinks. */

const id = (disk: number, partition: number): string => `${disk}1111111-2222-4333-8444-55555555555${partition}`;
const WORDS = `quantix.boot_part=${id(1, 1)} quantix.a_part=${id(1, 2)} quantix.b_part=${id(1, 3)}`;

requires({ commands: [...IMAGE_COMMANDS, 'sfdisk'] })('a host that GRUB told its partitions', () => {
  const bench = agentBench();

  /** Slots and /boot on sda, as the installer makes it. */
  const onDisk = async (): Promise<TestHost> => {
    const host = await bench.host([await fullRelease(bench, '2.0.0')]);
    const { root } = host;
    await addDisk(root, 'sda', 8, [
      { label: 'QUANTIX-BOOT', uuid: id(1, 1) },
      { label: 'QUANTIX-A', uuid: id(1, 2), content: 'slots/a' },
      { label: 'QUANTIX-B', uuid: id(1, 3), content: 'slots/b' },
    ]);
    await mountBoot(root, '8:1');
    await named(host);
    return host;
  };
  const named = async ({ root }: TestHost): Promise<void> => {
    const path = join(root, 'proc/cmdline');
    await writeFile(path, `${(await readFile(path, 'utf8')).trim()} ${WORDS}\n`);
  };
  const reboot = async (host: TestHost) => {
    const decision = await rebootInto(host.root, bench.known());
    await named(host);
    return decision;
  };
  /** A copy of sda, whose environment is this one. */
  const addCopy = (host: TestHost, environment: Uint8Array) =>
    addDisk(host.root, 'sdb', 65, [
      { label: 'QUANTIX-BOOT', uuid: id(1, 1), bytes: environment },
      { label: 'QUANTIX-A', uuid: id(1, 2) },
      { label: 'QUANTIX-B', uuid: id(1, 3) },
    ]);
  const environments = ({ root }: TestHost) =>
    Promise.all(['grubenv', 'grubenv.bak'].map((copy) => readFile(join(root, 'boot/grub', copy))));
  const slotB = ({ root }: TestHost) => readFile(join(root, 'slots/b'));
  const armed = async () => {
    const host = await onDisk();
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    return host;
  };
  const onTrial = async () => {
    const host = await armed();
    expect(await reboot(host)).toMatchObject({ slot: 'B', how: 'trial' });
    return host;
  };
  const status = (host: TestHost) => createAgent(host).status();
  const expectUntouched = async (host: TestHost, act: () => Promise<unknown>): Promise<void> => {
    const before = [...(await environments(host)), await slotB(host)];
    await act();
    expect([...(await environments(host)), await slotB(host)]).toEqual(before);
  };

  test('it is updated, and the slot that GRUB names is written, not what a name leads to', async () => {
    const host = await onTrial();
    expect(await confirm(host)).toMatchObject({ kind: 'confirmed', version: '2.0.0' });
    expect(await slotTable(host)).toMatchObject([
      { slot: 'A', device: join(host.root, 'dev/sda2'), version: '1.0.0' },
      { slot: 'B', device: join(host.root, 'dev/sda3'), version: '2.0.0' },
    ]);
  });

  describe('nothing is written', () => {
    test.each<[string, string, (host: TestHost) => Promise<void>]>([
      [
        'to a slot whose label something else has too',
        'DISK_AMBIGUOUS',
        ({ root }) => addDisk(root, 'sdb', 65, [{ label: 'QUANTIX-B', uuid: id(2, 1) }]),
      ],
      [
        'while /boot is on another disk',
        'BOOT_MISMATCH',
        async ({ root }) => {
          await addDisk(root, 'sdb', 65, [{ label: 'QUANTIX-BOOT', uuid: id(2, 1) }]);
          await mountBoot(root, '65:1');
        },
      ],
      ['while /boot is not mounted', 'BOOT_MISSING', ({ root }) => mountBoot(root, '0:20')],
      [
        'while an exact copy of the disk is in the machine',
        'DISK_AMBIGUOUS',
        async (host) => addCopy(host, (await environments(host))[0] as Uint8Array),
      ],
    ])('%s', async (_what, code, change) => {
      const host = await onDisk();
      await change(host);
      await expectUntouched(host, () =>
        expect(install(host, {}, {})).rejects.toMatchObject({ code, next: expect.any(String) }),
      );
      expect(host.outcomes.at(-1)?.result ?? 'none').not.toBe('complete');
    });

    test('to a slot whose configured name leads elsewhere', async () => {
      const host = await onDisk();
      await writeFile(join(host.root, 'slots/stick'), new Uint8Array(1 << 20));
      const config = { ...host.config, slots: { ...host.config.slots, B: '/slots/stick' } };
      await expectUntouched(host, () =>
        expect(install({ ...host, config }, {}, {})).rejects.toMatchObject({
          code: 'SLOT_MISPLACED',
          message: expect.stringContaining('/slots/stick'),
        }),
      );
    });

    test('and status, health and the audit log say why, for as long as it is so', async () => {
      const host = await onDisk();
      await mountBoot(host.root, '0:20');
      await recover(host);
      await recover(host);
      expect(await status(host)).toMatchObject({
        status: 'error',
        message: expect.stringContaining('/boot is not mounted'),
      });
      expect(host.log.lines.filter(({ event }) => event === 'boot_contradicted')).toHaveLength(1);
      expect(await markSlot(host, 'good', 'booted').catch((error) => error)).toMatchObject({ code: 'BOOT_MISSING' });
      await mountBoot(host.root, '8:1');
      await recover(host);
      expect(await status(host)).toEqual({ status: 'idle' });
      expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    });
  });

  describe('a trial, with an exact copy of the disk in the machine', () => {
    test('goes on where what GRUB has just saved is on the disk of /boot alone', async () => {
      const host = await armed();
      await addCopy(host, (await environments(host))[0] as Uint8Array);
      await reboot(host);
      expect(await confirm(host)).toMatchObject({ kind: 'confirmed', version: '2.0.0' });
      // From here on nobody can tell the two apart.
      await expectUntouched(host, () =>
        expect(rollback(host, 'for the test')).rejects.toMatchObject({ code: 'DISK_AMBIGUOUS' }),
      );
      expect(await journalOf(host.root)).toMatchObject({ phase: 'complete' });
    });

    test('confirms and writes nothing where it was saved on the other one', async () => {
      const host = await armed();
      const before = await environments(host);
      await reboot(host);
      await addCopy(host, (await environments(host))[0] as Uint8Array);
      await writeFile(join(host.root, 'boot/grub/grubenv'), before[0] as Uint8Array);
      await expectUntouched(host, async () => {
        await expect(confirm(host)).rejects.toMatchObject({
          code: 'BOOT_MISMATCH',
          message: expect.stringContaining('/dev/sdb1'),
        });
        await expect(confirm(host)).rejects.toMatchObject({ code: 'BOOT_MISMATCH' });
      });
      expect(await status(host)).toMatchObject({ status: 'error' });
      expect(await journalOf(host.root)).toMatchObject({ phase: 'armed' });
      expect(host.machine.reboots).toBe(0);
    });

    test('confirms and writes nothing where both say the same', async () => {
      const host = await onTrial();
      await addCopy(host, (await environments(host))[0] as Uint8Array);
      await expectUntouched(host, () => expect(confirm(host)).rejects.toMatchObject({ code: 'DISK_AMBIGUOUS' }));
    });
  });

  test('a trial in which /boot is not mounted is not confirmed into the folder below it; once it is mounted, it is', async () => {
    const host = await onTrial();
    const boot = join(host.root, 'boot');
    await rename(boot, `${boot}-real`);
    await mkdir(join(boot, 'grub'), { recursive: true });
    await mountBoot(host.root, '0:20');
    await expect(confirm(host)).rejects.toMatchObject({ code: 'BOOT_MISSING' });
    expect(await readdir(join(boot, 'grub'))).toEqual([]);
    expect(await status(host)).toMatchObject({ status: 'error' });
    await rm(boot, { recursive: true });
    await rename(`${boot}-real`, boot);
    await mountBoot(host.root, '8:1');
    expect(await confirm(host)).toMatchObject({ kind: 'confirmed', version: '2.0.0' });
  });

  describe('what GRUB says and what the host believes', () => {
    test('a trial of which the environment here says that it is over is not confirmed', async () => {
      const host = await onTrial();
      const [trial] = await environments(host);
      expect(await confirm(host)).toMatchObject({ kind: 'confirmed' });
      // The next boot is a trial again: GRUB reads another environment.
      const cmdline = await readFile(join(host.root, 'proc/cmdline'), 'utf8');
      await reboot(host);
      await writeFile(join(host.root, 'proc/cmdline'), cmdline);
      expect(decodeBoot(trial as Uint8Array)?.trial).not.toBe('');
      await expectUntouched(host, () => expect(confirm(host)).rejects.toMatchObject({ code: 'BOOT_MISMATCH' }));
      expect(await status(host)).toMatchObject({ status: 'error', message: expect.stringContaining('says nothing') });
    });

    test('one that an agent of before has confirmed in this boot contradicts nothing', async () => {
      const host = await onTrial();
      await confirm(host);
      await rm(join(host.root, 'run/quantix/boot-truth.json'));
      await recover(host);
      expect(await status(host)).toMatchObject({ status: 'complete' });
    });

    test('an update that GRUB gave up is not called complete, and no boot is spent on it', async () => {
      const host = await onTrial();
      const { state } = await bootState(host.root);
      const trial = state?.trial ?? '';
      await confirm(host);
      await writeFile(
        join(host.root, 'proc/cmdline'),
        `quantix.slot=A quantix.env=grubenv quantix.failed=${trial} ${WORDS}\n`,
      );
      await writeFile(join(host.root, 'etc/quantix-version'), '1.0.0\n');
      await rm(join(host.root, 'run'), { recursive: true });
      await recover(host);
      expect(await status(host)).toMatchObject({
        status: 'error',
        message: expect.stringContaining('given up the update to 2.0.0'),
      });
      expect(await ordinaryBoot(host, {})).toMatchObject({
        kind: 'staying_up',
        reason: expect.stringContaining('another boot would not mend it'),
      });
      expect(host.machine.reboots).toBe(0);
    });
  });

  describe('the image that runs', () => {
    test.each<[string, string, (host: TestHost) => Promise<void>]>([
      [
        'says that it is another version',
        'IMAGE_MISMATCH',
        ({ root }) => writeFile(join(root, 'etc/quantix-version'), '0.9.0\n'),
      ],
      [
        'says that it is the old version',
        'IMAGE_MISMATCH',
        ({ root }) => writeFile(join(root, 'etc/quantix-version'), '1.0.0\n'),
      ],
      [
        'is not what was written any more',
        'READBACK_MISMATCH',
        async ({ root }) => {
          const bytes = await readFile(join(root, 'slots/b'));
          bytes[600_000] = 255 - (bytes[600_000] ?? 0);
          await writeFile(join(root, 'slots/b'), bytes);
        },
      ],
    ])('%s: the slot is given back, and nothing is held against the release for good', async (_what, code, change) => {
      const host = await onTrial();
      await change(host);
      expect(await confirm(host)).toMatchObject({
        kind: 'rolling_back',
        version: '2.0.0',
        failed: [{ name: 'image' }],
      });
      expect((await bootState(host.root)).state).toMatchObject({ order: ['A', 'B'], B: { ok: false } });
      await reboot(host);
      await recover(host);
      expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack', error: { code } });
      expect((await memoryOf(host.root))?.bad).toMatchObject([{ version: '2.0.0', until: expect.any(String) }]);
    });

    test('runs from another partition of that name', async () => {
      const host = await onTrial();
      await addDisk(host.root, 'sdb', 65, [{ label: 'QUANTIX-B', uuid: id(2, 3) }]);
      const disks = { ...host.disks, isInUse: async (device: string) => device === '/dev/sdb1' };
      const result = await confirm({ ...host, disks });
      expect(result).toMatchObject({
        kind: 'rolling_back',
        failed: [{ detail: expect.stringContaining('the system runs from /dev/sdb1') }],
      });
    });
  });

  describe('a slot that somebody wrote to', () => {
    const updated = async () => {
      const host = await onTrial();
      await confirm(host);
      expect(await install(await openHost({ ...host, root: host.root }), {}, {})).toMatchObject({
        code: 'NOTHING_NEWER',
      });
      return host;
    };

    test('is shown with the version that lies on it', async () => {
      const host = await updated();
      await writeFile(join(host.root, 'slots/b'), bench.known().get('3.0.0')?.bytes ?? '');
      expect(
        (
          await slotTable({
            ...host,
            boot: { ...host.boot, booted: async () => ({ ...(await host.boot.booted()), slot: 'A' }) },
          })
        )[1],
      ).toMatchObject({ version: '3.0.0' });
      await writeFile(join(host.root, 'slots/a'), new Uint8Array(1 << 20));
      expect((await slotTable(host))[0]).toMatchObject({ version: null });
    });

    test('is neither marked good nor rolled back to', async () => {
      const host = await updated();
      // Back on A, which the agent has never written, and then on to B again: now it knows both.
      const bytes = await readFile(join(host.root, 'slots/b'));
      bytes[600_000] = 255 - (bytes[600_000] ?? 0);
      await writeFile(join(host.root, 'slots/b'), bytes);
      await rollback(host, 'for the test');
      await reboot(host);
      expect(await markSlot(host, 'good', 'B')).toMatchObject({ kind: 'refusal', code: 'READBACK_MISMATCH' });
    });
  });
});
