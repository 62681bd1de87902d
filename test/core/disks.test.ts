import { describe, expect, test } from 'vitest';
import {
  type DiskFacts,
  grubsPartitions,
  grubsSlot,
  judgeBoot,
  judgeSlot,
  namesakes,
  type Partition,
} from '../../src/core/disks.ts';

/** A disk as the installer of Quantix-OS makes it; `copy` has other ids. */
function disk(name: string, id: string): readonly Partition[] {
  return ['QUANTIX-BOOT', 'QUANTIX-A', 'QUANTIX-B'].map((label, i) => ({
    device: `/dev/${name}${i + 1}`,
    disk: `/dev/${name}`,
    uuid: `${id}-0${i + 1}`,
    label,
    systemLabel: null,
  }));
}

const SDA = disk('sda', '11111111');
const TOLD = { bootPart: '11111111-01', slotParts: { A: '11111111-02', B: '11111111-03' } } as const;
const SILENT = { bootPart: null, slotParts: { A: null, B: null } } as const;
const facts = (partitions: readonly Partition[], boot: string | null = '/dev/sda1'): DiskFacts => ({
  partitions,
  boot,
});
const boot = (told: typeof TOLD | typeof SILENT, on: DiskFacts) => judgeBoot(told, on, grubsPartitions(told, on));

describe('/boot, as GRUB named its partition', () => {
  const STICK = { ...SDA[2], device: '/dev/sdb1', disk: '/dev/sdb', uuid: '22222222-01' } as Partition;
  const UNREAD = { ...STICK, uuid: null };

  test.each<[string, typeof TOLD | typeof SILENT, DiskFacts, string | null]>([
    ['is the one that GRUB read', TOLD, facts(SDA), null],
    ['is another partition', TOLD, facts([...SDA, STICK], '/dev/sdb1'), 'BOOT_MISMATCH'],
    ['is not mounted', TOLD, facts(SDA, null), 'BOOT_MISSING'],
    ['is on a disk and on its copy', TOLD, facts([...SDA, ...disk('sdb', '11111111')]), 'DISK_AMBIGUOUS'],
    ['is on no disk that this system has', TOLD, facts(disk('sdb', '22222222'), '/dev/sdb1'), 'BOOT_MISMATCH'],
    ['may be on one that cannot be read', TOLD, facts([UNREAD], '/dev/sdb1'), null],
    ['is not known where there are no partitions', TOLD, facts([], null), null],
    ['is not known where GRUB says nothing', SILENT, facts(SDA, null), null],
  ])('%s', (_what, told, on, code) => {
    expect(boot(told, on)?.code ?? null).toBe(code);
  });

  test('two that are the same are named, with what ends it', () => {
    const trouble = boot(TOLD, facts([...SDA, ...disk('sdb', '11111111')]));
    expect(trouble?.detail).toContain('/dev/sda1 and /dev/sdb1 have one id');
    expect(trouble?.next).toContain('sgdisk --randomize-guids /dev/sdb');
  });
});

describe('a slot', () => {
  const trouble = (on: DiskFacts, named: string | null = '/dev/sda3', told: typeof TOLD | typeof SILENT = TOLD) => {
    const grubs = grubsSlot(told, on, grubsPartitions(told, on), 'B');
    return judgeSlot(on, { slot: 'B', named, grubs });
  };
  const stick = (change: Partial<Partition>): Partition => ({
    ...{ device: '/dev/sdb1', disk: '/dev/sdb', uuid: '22222222-01', label: null, systemLabel: null },
    ...change,
  });

  test.each<[string, ReturnType<typeof judgeSlot>, string | null]>([
    ['is where GRUB and its name have it', trouble(facts(SDA)), null],
    ['has no name, and GRUB knows it', trouble(facts(SDA), null), null],
    ['leads to another disk by its name', trouble(facts(SDA), '/dev/sdb1'), 'SLOT_MISPLACED'],
    [
      'shares its label with another partition',
      trouble(facts([...SDA, stick({ label: 'QUANTIX-B' })])),
      'DISK_AMBIGUOUS',
    ],
    ['shares it with a file system', trouble(facts([...SDA, stick({ systemLabel: 'QUANTIX-B' })])), 'DISK_AMBIGUOUS'],
    ['does not mind the label of the other slot', trouble(facts([...SDA, stick({ label: 'QUANTIX-A' })])), null],
    [
      'is on another disk than /boot',
      trouble(facts([...SDA, stick({})], '/dev/sdb1'), '/dev/sda3', SILENT),
      'SLOT_MISPLACED',
    ],
    [
      'shares it with another member of one RAID',
      trouble(facts([...SDA, stick({ device: '/dev/sda3', label: 'QUANTIX-B' })])),
      null,
    ],
    ['is on the same disk as /boot', trouble(facts([...SDA, stick({})]), '/dev/sda3', SILENT), null],
    ['is on a disk of which nothing is known', trouble(facts(SDA), '/dev/mapper/b', SILENT), null],
  ])('%s', (_what, found, code) => expect(found?.code ?? null).toBe(code));

  test('is nobody knows where, while a disk and its copy are not told apart', () => {
    const on = facts([...SDA, ...disk('sdb', '11111111')]);
    expect(grubsSlot(TOLD, on, grubsPartitions(TOLD, on), 'B')).toBeNull();
    expect(grubsSlot(TOLD, on, [on.partitions[3] as Partition], 'B')).toBe('/dev/sdb3');
  });

  test('could be taken for what has its id, its label or that of its file system', () => {
    const on = facts([...SDA, stick({ label: 'QUANTIX-B' }), stick({ device: '/dev/sdc1' })]);
    expect(namesakes(on, '/dev/sda3').map(({ device }) => device)).toEqual(['/dev/sdb1']);
    expect(namesakes(on, '/dev/nowhere')).toEqual([]);
  });
});
