import { cp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { keepIdentity, settleIdentity, showIdentity } from '../../src/agent/fleet/binding.ts';
import { enrol } from '../../src/agent/fleet/enrol.ts';
import { loadEnrolling, loadMembership, ownMembership } from '../../src/agent/fleet/membership.ts';
import { readHardware } from '../../src/agent/hardware.ts';
import { loadIdentity } from '../../src/agent/identity.ts';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import type { Files } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { refusal } from '../support/documents.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { type FleetBench, fleetBench } from '../support/fleet.ts';
import { joinString, newMember, openMember, RELEASE, type TestMember } from '../support/member.ts';
import { cutAfter, PowerCut } from '../support/powercut.ts';
import { temporaryFolder } from '../support/temp.ts';

/** The identity of a host belongs to its machine: a copy of its disk is another host, whoever started it. */

const HOST = 'quantix/limiquantix/host.json';

const put = async (root: string, files: Readonly<Record<string, string>>): Promise<void> => {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
};

/** What the kernel of a machine says of it, in its folder. */
async function machine(root: string, n: number, parts: { card?: number; disk?: number; uuid?: number } = {}) {
  const { card = n, disk = n, uuid = n } = parts;
  await rm(join(root, 'sys'), { recursive: true, force: true });
  await put(root, {
    'proc/self/mountinfo': '22 1 0:20 / / rw - tmpfs tmpfs rw\n30 22 8:3 / /quantix rw,noatime - ext4 /dev/sda3 rw\n',
    'sys/class/dmi/id/product_uuid': `4C4C4544-0043-3510-8051-B4C04F4A4E3${uuid}\n`,
    'sys/class/dmi/id/board_serial': `.CN7475171K012${n}.\n`,
    'sys/class/net/eth0/address': `3c:ec:ef:10:20:3${card}\n`,
    'sys/class/net/eth0/addr_assign_type': '0\n',
    'sys/class/net/eth0/device/vendor': '0x8086\n',
    'sys/class/net/br0/address': '3c:ec:ef:aa:aa:aa\n',
    'sys/devices/pci/block/sda/device/wwid': `naa.500a07511${disk}\n`,
    'sys/devices/pci/block/sda/sda3/partition': '3\n',
  });
  await mkdir(join(root, 'sys/dev/block'), { recursive: true });
  await symlink('../../devices/pci/block/sda/sda3', join(root, 'sys/dev/block/8:3'));
}

async function onMachine(n: number): Promise<string> {
  const root = await temporaryFolder();
  await put(root, { 'etc/quantix-version': '1.0.0\n' });
  await machine(root, n);
  return root;
}

/** Its disk in another machine; what is in memory does not come along. */
async function copyOf({ root }: TestMember, n: number): Promise<string> {
  const copy = join(await temporaryFolder(), 'host');
  await cp(root, copy, { recursive: true, verbatimSymlinks: true });
  await rm(join(copy, 'run'), { recursive: true, force: true });
  await machine(copy, n);
  return copy;
}

const idOf = async ({ files }: TestMember): Promise<string> => (await loadIdentity(files)).id;

describe('the hardware', () => {
  test('is read where it says something of this machine alone', async () => {
    expect(await readHardware(hostFiles(await onMachine(1)))).toEqual({
      uuid: '4c4c4544-0043-3510-8051-b4c04f4a4e31',
      board: '.CN7475171K0121.',
      cards: ['3c:ec:ef:10:20:31'],
      disks: ['naa.500a075111'],
    });
  });

  test('below a bond, RAID and encryption is that of the cards and disks themselves', async () => {
    const root = await temporaryFolder();
    await put(root, {
      'proc/self/mountinfo': '30 22 253:0 / /quantix rw - ext4 /dev/mapper/state rw\n',
      'sys/class/net/eth0/address': '3c:ec:ef:00:00:01\n',
      'sys/class/net/eth0/addr_assign_type': '3\n',
      'sys/class/net/eth0/bonding_slave/perm_hwaddr': '3c:ec:ef:00:00:02\n',
      'sys/class/net/eth0/device/vendor': '1\n',
      'sys/class/net/vf0/address': '02:00:00:00:00:09\n',
      'sys/class/net/vf0/addr_assign_type': '1\n',
      'sys/class/net/vf0/device/vendor': '1\n',
      'sys/devices/virtual/block/dm-0/slaves/md0/size': '1\n',
      'sys/devices/virtual/block/md0/slaves/sda1/size': '1\n',
      'sys/devices/virtual/block/md0/slaves/nvme0n1/size': '1\n',
      'sys/devices/a/sda/sda1/partition': '1\n',
      'sys/devices/a/sda/device/serial': 'S6PU-A\n',
      'sys/devices/b/nvme0n1/wwid': 'eui.0025385b\n',
    });
    const links = {
      'dev/block/253:0': '../../devices/virtual/block/dm-0',
      'class/block/md0': '../../devices/virtual/block/md0',
    };
    const disks = { 'class/block/sda1': '../../devices/a/sda/sda1', 'class/block/nvme0n1': '../../devices/b/nvme0n1' };
    for (const [at, to] of Object.entries({ ...links, ...disks })) {
      await mkdir(dirname(join(root, 'sys', at)), { recursive: true });
      await symlink(to, join(root, 'sys', at));
    }
    const { cards, disks: serials } = await readHardware(hostFiles(root));
    expect([cards, serials]).toEqual([['3c:ec:ef:00:00:02'], ['S6PU-A', 'eui.0025385b']]);
  });

  test('that is not there is not known', async () => {
    const nothing = { uuid: null, board: null, cards: [], disks: [] };
    expect(await readHardware(hostFiles(await temporaryFolder()))).toEqual(nothing);
  });
});

describe('the id', () => {
  test('is made once, of a host and not of its image, and is for root alone', async () => {
    const [one, other] = [await openMember(), await openMember()];
    expect(await idOf(one)).toBe(await idOf(await openMember({ root: one.root })));
    expect(await idOf(one)).not.toBe(await idOf(other));
    expect((await stat(join(one.root, HOST))).mode & 0o777).toBe(0o600);
    expect(await readdir(join(one.root, 'quantix/limiquantix'))).not.toContain('host.json.new');
  });

  test('is one, although the agent and a command come to make it together', async () => {
    const files = hostFiles(await temporaryFolder());
    const made = await Promise.all(Array.from({ length: 8 }, () => loadIdentity(files)));
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
  });

  test('that cannot be read is not made anew: what needs it is refused, and says what to do', async () => {
    const member = await openMember({ settings: ['fleetlock_url: http://127.0.0.1:9'] });
    await put(member.root, { [HOST]: '{' });
    await settleIdentity(member);
    expect(await readFile(join(member.root, HOST), 'utf8')).toBe('{');
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringMatching(/host\.json is not acceptable JSON.*mv .*host\.json\.bad/),
    });
  });
});

describe('a copied disk', () => {
  let fleet: FleetBench;
  let original: TestMember;
  beforeEach(async () => {
    fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    original = await newMember(fleet, 'qhci-01', { carries_vms: false }, { root: await onMachine(1) });
  });

  const heard = async (): Promise<unknown> =>
    (await fleet.store.db.selectFrom('node_boot').selectAll().execute()).length;

  test('of a member is refused by itself, and the server hears nothing of it', async () => {
    const before = await loadMembership(original.files);
    const copy = await openMember({ root: await copyOf(original, 2) });
    expect(await copy.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringMatching(/made on another machine.*enroll JOIN.*identity keep/),
    });
    expect(await copy.offer.beginReboot()).toMatchObject({ granted: false });
    expect(await copy.offer.mayApply(RELEASE, false)).toMatchObject({ granted: false });
    copy.clock.advance(25 * 86_400_000);
    await copy.duties.tick();
    const url = `${fleet.origin}/api/v1/quantix-os/manifest`;
    const limits = { maxBytes: 1000, connectTimeoutMs: 1, headersTimeoutMs: 1, minBytesPerWindow: 1, windowMs: 1 };
    expect(await refusal(() => copy.http.get(url, { limits }))).toBe('MACHINE_DIFFERS');
    expect(await loadMembership(copy.files)).toEqual(before);
    expect(await heard()).toBe(0);
    expect(copy.log.lines).toContainEqual(expect.objectContaining({ event: 'identity_copied' }));
    expect(await original.offer.mayReboot(RELEASE)).toEqual({ granted: true });
  });

  test.each([
    ['a member of a fleet', []],
    ['a host that asks a FleetLock server', ['fleetlock_url: http://127.0.0.1:9']],
  ])('that cannot put aside what belongs to the original says nothing in its name: %s', async (_what, settings) => {
    const root = await copyOf(original, 2);
    if (settings.length > 0) await rm(join(root, 'quantix/limiquantix/fleet.json'));
    // No lock can be had there.
    await mkdir(join(root, 'run/quantix/identity.lock'), { recursive: true });
    const copy = await openMember({ root, settings });
    expect(copy.log.lines).toContainEqual(expect.objectContaining({ event: 'identity_not_settled' }));
    expect(await copy.offer.mayReboot(RELEASE)).toMatchObject({ reason: expect.stringContaining('another machine') });
    expect(await heard()).toBe(0);
  });

  test('has an id of its own, for good', async () => {
    const id = await idOf(original);
    const copy = await openMember({ root: await copyOf(original, 2) });
    expect(await idOf(copy)).not.toBe(id);
    expect(await idOf(await openMember({ root: copy.root }))).toBe(await idOf(copy));
    expect(await idOf(await openMember({ root: original.root }))).toBe(id);
  });

  test('enrols like a new host, without being told that it is a member', async () => {
    const copy = await openMember({ root: await copyOf(original, 2) });
    await enrol(copy, await joinString(fleet, 'qhci-02', { carries_vms: false }), {});
    expect((await loadMembership(copy.files))?.node_id).toBe('qhci-02');
    expect(await copy.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(await refusal(() => keepIdentity(copy, 'no', 'test'))).toBe('MACHINE_IS_SAME');
  });

  test('that waited to be let in does not go on asking with the key of the original', async () => {
    const waits = await openMember({ root: await onMachine(3) });
    await enrol(waits, await joinString(fleet, 'qhci-03', { needs_approval: true }), {});
    const copy = await openMember({ root: await copyOf(waits, 4) });
    await copy.duties.tick();
    expect(await loadEnrolling(copy.files)).toBeNull();
    expect(await loadEnrolling(waits.files)).not.toBeNull();
  });

  test('made in the middle of a maintenance gives back no place that is not its own', async () => {
    await original.offer.mayReboot(RELEASE);
    const copy = await openMember({ root: await copyOf(original, 2) });
    expect(await loadRecord(copy.files)).toBeNull();
    await copy.duties.tick().catch(() => undefined);
    expect(await original.offer.beginReboot()).toEqual({ granted: true });
  });

  test('of a host from before, whose key says nothing of a host, is refused as well', async () => {
    const { host_id: _, ...before } = (await loadMembership(original.files)) ?? {};
    await put(original.root, { 'quantix/limiquantix/fleet.json': JSON.stringify(before) });
    const copy = await openMember({ root: await copyOf(original, 2) });
    expect(await refusal(() => copy.http.get(`${fleet.origin}/x`, { limits: {} as never }))).toBe('MACHINE_DIFFERS');
    const own = await openMember({ root: original.root });
    expect((await loadMembership(own.files))?.host_id).toBe(await idOf(own));
    expect(await own.offer.mayReboot(RELEASE)).toEqual({ granted: true });
  });

  test('of the file with the key alone is refused, too', async () => {
    const other = await openMember({ root: await onMachine(2) });
    await cp(join(original.root, 'quantix/limiquantix/fleet.json'), join(other.root, 'quantix/limiquantix/fleet.json'));
    expect(await other.offer.mayReboot(RELEASE)).toMatchObject({ reason: expect.stringContaining('another machine') });
  });
});

describe('an exchange of hardware', () => {
  test.each([
    ['a network card', { card: 7 }],
    ['a disk', { disk: 7 }],
    ['a UUID', { uuid: 7 }],
  ])('of %s locks nobody out, and counts from then on', async (_what, parts) => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    const { root } = await newMember(fleet, 'qhci-01', { carries_vms: false }, { root: await onMachine(1) });
    await machine(root, 1, parts);
    const member = await openMember({ root });
    expect(await member.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect((await loadIdentity(member.files)).hardware).toEqual(await readHardware(member.files));
  });

  test('of nearly everything is said by a person, who gets the host back as it was', async () => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false }, { root: await onMachine(1) });
    const id = await idOf(member);
    await member.offer.mayReboot(RELEASE);
    const record = await loadRecord(member.files);
    await machine(member.root, 2);
    const after = await openMember({ root: member.root });
    const boot = { bootId: async () => 'x' };
    expect(await showIdentity({ ...after, boot: boot as never })).toMatchObject({
      refused: { code: 'MACHINE_DIFFERS' },
    });
    await keepIdentity(after, 'new main board', 'test');
    expect([await idOf(after), await loadRecord(after.files)]).toEqual([id, record]);
    expect(await after.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(await refusal(() => keepIdentity(after, 'again', 'test'))).toBe('MACHINE_IS_SAME');
    const audit = join(after.root, 'quantix/limiquantix/audit');
    const lines = await Promise.all((await readdir(audit)).map((name) => readFile(join(audit, name), 'utf8')));
    expect(lines.join('')).toMatch(/identity_copied.*\n.*identity_kept.*new main board/);
  });
});

test('a host in a folder, of which nothing can be read, goes on working', async () => {
  const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
  const { root } = await newMember(fleet, 'qhci-01', { carries_vms: false });
  expect(await (await openMember({ root })).offer.mayReboot(RELEASE)).toEqual({ granted: true });
});

describe('when the power goes after each effect in turn', () => {
  const MEMBER = { format: 1, server: 'https://127.0.0.1:9', pin: 'x', private_key: 'k', node_id: 'qhci-01', id: 'i' };
  const RECORD = { format: 1, by: 'fleet', update_type: 'full', target_version: '1.1.0', is_rebooting: true };

  /** A member in the middle of its maintenance, on another machine than its own. */
  async function moved() {
    const root = await onMachine(1);
    const { id } = await loadIdentity(hostFiles(root));
    const membership = { ...MEMBER, certificate: 'c', not_after: '', renew_after: '', host_id: id };
    await put(root, {
      'quantix/limiquantix/fleet.json': JSON.stringify(membership),
      'quantix/limiquantix/maintenance.json': JSON.stringify(RECORD),
      'quantix/limiquantix/reports/0000000001.json': '{}',
    });
    await machine(root, 2);
    return { root, id };
  }

  const settling = (files: Files) => {
    const log = recordedLog();
    return { files, log, clock: fakeClock(), audit: { record: async () => undefined } };
  };

  /** Until nothing is cut any more. */
  async function eachCut(act: (root: string, id: string, files: Files) => Promise<void>): Promise<number> {
    for (let count = 0; ; count += 1) {
      const { root, id } = await moved();
      const { ports, isOff } = cutAfter({ files: hostFiles(root) }, count);
      await act(root, id, ports.files).catch((error: unknown) => expect(error).toBeInstanceOf(PowerCut));
      if (!isOff()) return count;
    }
  }

  test('a copy speaks for the original at no moment, and becomes a host of its own at the next start', async () => {
    const cuts = await eachCut(async (root, id, cut) => {
      const files = hostFiles(root);
      await settleIdentity(settling(cut));
      expect(await refusal(() => ownMembership(files))).toBe('MACHINE_DIFFERS');
      await settleIdentity(settling(files));
      expect((await loadIdentity(files)).id).not.toBe(id);
      expect([await loadRecord(files), await files.list('/quantix/limiquantix/reports')]).toEqual([null, []]);
      expect(await refusal(() => ownMembership(files))).toBe('MACHINE_DIFFERS');
    });
    expect(cuts).toBeGreaterThan(5);
  });

  test('a host that is kept is kept when it is said again, with what it held', async () => {
    const cuts = await eachCut(async (root, id, cut) => {
      const files = hostFiles(root);
      await settleIdentity(settling(files));
      await keepIdentity(settling(cut), 'new board', 'test').catch(() => undefined);
      await keepIdentity(settling(files), 'new board', 'test').catch((error: unknown) =>
        expect(error).toMatchObject({ code: 'MACHINE_IS_SAME' }),
      );
      expect((await loadIdentity(files)).id).toBe(id);
      expect(await loadRecord(files)).toEqual(RECORD);
      expect(await files.list('/quantix/limiquantix/reports')).toEqual(['0000000001.json']);
      expect((await ownMembership(files))?.node_id).toBe('qhci-01');
    });
    expect(cuts).toBeGreaterThan(5);
  });
});
