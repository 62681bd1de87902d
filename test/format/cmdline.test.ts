import { describe, expect, test } from 'vitest';
import { parseCmdline } from '../../src/format/cmdline.ts';

const nothing = {
  slot: null,
  copy: null,
  trial: '',
  triesLeft: null,
  bootPart: null,
  slotParts: { A: null, B: null },
  failed: '',
  failedWhy: '',
  safe: false,
};

describe('the kernel command line', () => {
  test('of a trial boot', () => {
    const text =
      'BOOT_IMAGE=(hd0,gpt3)/boot/vmlinuz root=PARTLABEL=QUANTIX-B ro quantix.slot=B quantix.env=grubenv.bak quantix.trial=trial0001\n';
    expect(parseCmdline(text)).toEqual({ ...nothing, slot: 'B', copy: 'grubenv.bak', trial: 'trial0001' });
  });

  test('of a trial boot whose partitions GRUB names', () => {
    const text =
      'quantix.slot=B quantix.trial=trial0001 quantix.tries=2 quantix.boot_part=9f7d9f0e-3a8b-4d4c-9d57-0a1b2c3d4e5f ' +
      'quantix.a_part=1234abcd-02 quantix.b_part=1234ABCD-03';
    expect(parseCmdline(text)).toMatchObject({
      triesLeft: 2,
      bootPart: '9f7d9f0e-3a8b-4d4c-9d57-0a1b2c3d4e5f',
      slotParts: { A: '1234abcd-02', B: null },
    });
    expect(parseCmdline('quantix.tries=4').triesLeft).toBeNull();
  });

  test('of a boot after a trial was given up', () => {
    const text = 'quantix.slot=A quantix.env=grubenv quantix.failed=trial0001 quantix.safe';
    expect(parseCmdline(text)).toEqual({ ...nothing, slot: 'A', copy: 'grubenv', failed: 'trial0001', safe: true });
  });

  test.each([
    ['unreadable', 'unreadable'],
    ['unsaved', 'unsaved'],
    ['bored', ''],
  ])('of a boot after a trial that GRUB gave up itself: %s', (word, failedWhy) => {
    expect(parseCmdline(`quantix.failed=trial0001 quantix.failed_why=${word}`)).toMatchObject({ failedWhy });
  });

  test('of a system that our GRUB did not start', () => {
    expect(parseCmdline('')).toEqual(nothing);
    expect(parseCmdline('BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet xquantix.slot=A quantix.safely')).toEqual(nothing);
  });

  test('without an environment', () => {
    expect(parseCmdline('quantix.slot=A quantix.env=none')).toEqual({ ...nothing, slot: 'A' });
  });

  test('values that we never write say nothing', () => {
    expect(parseCmdline('quantix.slot=C quantix.env=../grubenv quantix.trial=X quantix.failed=A')).toEqual(nothing);
  });

  test('the last of a repeated word counts', () => {
    expect(parseCmdline('quantix.slot=A quantix.slot=B')).toMatchObject({ slot: 'B' });
    expect(parseCmdline('quantix.slot=A quantix.slot=')).toMatchObject({ slot: null });
  });
});
