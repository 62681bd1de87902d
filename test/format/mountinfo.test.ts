import { expect, test } from 'vitest';
import { mountOf } from '../../src/format/mountinfo.ts';

const LINES = [
  '20 1 0:18 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/system',
  '21 20 8:1 / /boot rw - ext4 /dev/sda1 rw',
  '22 20 8:5 / /data rw - xfs /dev/sda5 rw',
  '23 20 0:33 /@data /data rw - btrfs /dev/sdb1 rw',
  '24 20 8:9 / /with\\040space rw - ext4 /dev/mapper/a\\134b rw',
  '',
].join('\n');

test.each<[string, string | null]>([
  ['/boot/grub', '8:1'],
  ['/boot', '8:1'],
  ['/bootstrap', '0:18'],
  ['/quantix', '0:18'],
  ['/data/updates', '0:33'],
  ['/with space/x', '8:9'],
])('%s lies on %s', (path, number) => {
  expect(mountOf(LINES, path)?.number).toBe(number);
});

test('what is mounted there is told as the kernel has it', () => {
  expect(mountOf(LINES, '/with space')).toEqual({
    point: '/with space',
    number: '8:9',
    type: 'ext4',
    source: '/dev/mapper/a\\b',
  });
  expect(mountOf(LINES, '/data')).toMatchObject({ type: 'btrfs', source: '/dev/sdb1' });
});

test.each(['', '\n', 'nonsense', '20 1 8:1 /'])('where nothing is known of mounts, nothing is said: %j', (text) => {
  expect(mountOf(text, '/data')).toBeNull();
});
