import assert from 'node:assert/strict';
import { readRetryAfter, retryDelayMs } from '../../../src/core/retry.ts';
import { parseCmdline } from '../../../src/format/cmdline.ts';
import { readConfig, SETTINGS } from '../../../src/format/config.ts';
import { decodeBlock, decodeBoot, encodeBlock, encodeBoot, sealOf } from '../../../src/format/grubenv.ts';
import { kernelMachine } from '../../../src/format/kernel.ts';
import { readPartitionTable } from '../../../src/format/partition-table.ts';
import { LAYOUT_BYTES, layoutOf, readExt4 } from '../../../src/format/slot-layout.ts';
import { expectSquashfs, grubWarning } from '../../../src/format/squashfs.ts';
import { readTries } from '../../../src/format/tries.ts';
import { checkVersion, compareVersions } from '../../../src/format/version.ts';
import { runsOf } from '../../../src/system/disk/ext4.ts';
import { block, goodA, trialB } from '../../support/grub-block.ts';
import { kernelHead } from '../../support/kernels.ts';
import { pure, type Target } from '../target.ts';

/** What lies on a host: its boot environment, its settings, its slots. */

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const MAGIC = '# GRUB Environment Block\n';

const grubenv: Target = {
  name: 'grubenv',
  seeds: {
    good: block(goodA),
    'on trial': block(trialB),
    'wrong seal': block(goodA, 'A B|1|1|0|0||'),
    'with others': `${MAGIC}saved_entry=0\nkernelopts=a\\\nb\\\\c\n#comment\n${block(goodA).slice(MAGIC.length)}`,
    'NUL in a value': block({ ...goodA, order: 'A B\0' }),
    'NUL in a name': `${MAGIC}quantix\0_order=A B\n${block(goodA).slice(MAGIC.length)}`,
    'escaped newline': block({ ...goodA, failed: '\\\nquantix_order=B A' }),
    'our name twice': `${MAGIC}quantix_order=B A\n${block(goodA).slice(MAGIC.length)}`,
    'no fill': `${MAGIC}a=1\n`,
    'full of others': `${MAGIC}${'x=1\n'.repeat(1017)}`.padEnd(4096, '#'),
    'one long value': `${MAGIC}x=${'y'.repeat(4060)}\n`.padEnd(4096, '#'),
    'header alone': MAGIC,
    'all fill': '#'.repeat(4096),
    'only backslashes': `${MAGIC}a=${'\\'.repeat(4000)}`,
    zeros: new Uint8Array(4096),
    'high bytes': Uint8Array.from(Buffer.from(`${MAGIC}a=\xff\xfe\n##`, 'latin1')),
    '64 KiB': `${MAGIC}${'a'.repeat(60_000)}=1\n`.padEnd(65_536, '#'),
    '1 MiB': MAGIC.padEnd(1 << 20, '#'),
    '64 KiB of variables': `${MAGIC}${Array.from({ length: 8000 }, (_, i) => `v${i}=\n`).join('')}`.slice(0, 65_536),
  },
  dictionary: [
    MAGIC,
    'quantix_order=',
    'quantix_seal=',
    'quantix_trial=',
    'A B|1|0|0|0||',
    'B A',
    '\\\n',
    '\\\\',
    '=',
    '\n',
    '#',
    '\0',
    '|',
    '3',
  ],
  refusals: /^BOOT_ENV_INVALID$/,
  maxBytes: 8192,
  start: pure((bytes) => {
    const boot = decodeBoot(bytes);
    const values = decodeBlock(bytes);
    if (boot !== null) {
      assert.equal(sealOf(boot), values.get('quantix_seal'));
      // GRUB boots by what we write next to the variables of others, whatever those are.
      assert.deepEqual(decodeBoot(encodeBoot(boot, bytes)), boot);
    }
    const named = [...values].filter(([name]) => /^[A-Za-z0-9_.-]{1,128}$/.test(name));
    assert.deepEqual([...decodeBlock(encodeBlock(new Map(named), 1 << 16))], named);
  }),
};

const cmdline: Target = {
  name: 'cmdline',
  seeds: {
    whole:
      'BOOT_IMAGE=/boot/vmlinuz quiet quantix.slot=A quantix.env=grubenv quantix.trial=trial0001 quantix.failed=trial0000 quantix.safe\n',
    twice: 'quantix.slot=A quantix.slot=B',
    'not ours': 'quantix.slot=__proto__ quantix.trial=../../x quantix.env=grubenv\0',
    '1 MiB': 'quantix.slot=A '.repeat(70_000),
  },
  dictionary: [
    'quantix.',
    'slot=',
    'env=',
    'trial=',
    'failed=',
    'safe',
    ' ',
    '\n',
    '\0',
    'A',
    'B',
    'grubenv',
    '.bak',
    '=',
  ],
  refusals: /^nothing is refused$/,
  start: pure((bytes) => {
    const { slot, copy, trial, failed, failedWhy } = parseCmdline(textOf(bytes));
    assert.ok(['', 'unreadable', 'unsaved'].includes(failedWhy));
    assert.ok([null, 'A', 'B'].includes(slot) && [null, 'grubenv', 'grubenv.bak'].includes(copy));
    for (const id of [trial, failed]) assert.match(id, /^(?:[a-z0-9]{8,32})?$/);
  }),
};

const tries: Target = {
  name: 'tries',
  seeds: {
    'three, and late': 'trial0001 started\ntrial0001 started\ntrial0001 started\ntrial0001 late 600\n',
    'of another': 'trial0000 started\n',
  },
  dictionary: ['trial0001', ' started', ' late ', '\n', '600', '-1', '99999'],
  refusals: /^nothing is refused$/,
  start: pure((bytes) => {
    const { started, timedOutS } = readTries(textOf(bytes), 'trial0001');
    assert.ok(started >= 0 && started <= bytes.length);
    assert.ok(timedOutS === null || (Number.isInteger(timedOutS) && timedOutS >= 0 && timedOutS <= 99_999));
  }),
};

const kernel: Target = {
  name: 'kernel',
  seeds: {
    bzImage: kernelHead('bzImage'),
    arm64: kernelHead('arm64 Image'),
    riscv: kernelHead('riscv Image'),
    EFI: kernelHead(`EFI ${0x8664}`),
  },
  dictionary: ['MZ', 'PE\0\0', 'HdrS', 'RISCV', 'ARMd'],
  refusals: /^nothing is refused$/,
  start: pure((bytes) => {
    const machine = kernelMachine(bytes);
    assert.ok(machine === null || /^[a-z0-9_]+$/.test(machine));
  }),
};

function superblock(compressor: number, blockLog: number, usedBytes: number): Uint8Array {
  const bytes = Buffer.alloc(LAYOUT_BYTES);
  bytes.write('hsqs');
  bytes.writeUInt32LE(2 ** blockLog, 12);
  bytes.writeUInt16LE(compressor, 20);
  bytes.writeUInt16LE(blockLog, 22);
  bytes.writeUInt16LE(4, 28);
  bytes.writeBigUInt64LE(BigInt(usedBytes), 40);
  bytes.writeBigUInt64LE(200n, 64);
  bytes.writeBigUInt64LE(300n, 72);
  return bytes;
}

function ext4(blockLog: number): Uint8Array {
  const bytes = Buffer.alloc(LAYOUT_BYTES);
  bytes.writeUInt32LE(blockLog, 1024 + 24);
  bytes.writeUInt16LE(0xef53, 1024 + 56);
  return bytes;
}

const slot: Target = {
  name: 'slot',
  seeds: {
    xz: superblock(4, 17, 4000),
    gzip: superblock(1, 12, 4096),
    zstd: superblock(6, 20, 4000),
    'longer than the image': superblock(4, 17, 1e9),
    'ends beyond all numbers': superblock(4, 17, Number.MAX_SAFE_INTEGER + 1),
    'no such compressor': superblock(7, 17, 4000),
    'block size of 2^31': superblock(4, 31, 4000),
    ext4: ext4(2),
    'ext4 with blocks of 2^38': ext4(28),
    'both at once': Uint8Array.from(superblock(4, 17, 4000), (byte, at) => byte | (ext4(2)[at] ?? 0)),
    'cut short': superblock(4, 17, 4000).subarray(0, 95),
    extents: 'EXTENTS:\n(0-2559):1238-3797, (3328):3798, (4000-4001[u]):9-10\n',
  },
  dictionary: ['hsqs', '\x53\xef', '\x04\0', '\x06\0', '(0):', '(', ')', '[u]', '-', ':', ', '],
  refusals: /^IMAGE_UNBOOTABLE$/,
  start: pure((bytes) => {
    const runs = runsOf(Buffer.from(bytes).toString('latin1'), 4096, 1 << 20);
    assert.equal(
      runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
      1 << 20,
    );
    const found = readExt4(bytes);
    if (found !== null) assert.ok(found.blockBytes >= 1024 && found.blockBytes <= 65_536);
    layoutOf(bytes);
    const image = expectSquashfs(bytes, bytes.length);
    assert.ok(image.usedBytes <= bytes.length && image.blockBytes >= 4096 && image.blockBytes <= 1 << 20);
    assert.equal(layoutOf(bytes), 'raw');
    grubWarning(image);
  }),
};

const version: Target = {
  name: 'version',
  seeds: {
    order: '2.10.0 2.9.0 2.9.0-rc.1',
    'pre-releases': '1.0.0-alpha 1.0.0-alpha.1 1.0.0-beta.2 1.0.0-beta.11',
    'build metadata': '1.0.0+a 1.0.0+b 1.0.0',
    'leading zero': '02.4.1',
    short: '2.4',
    newline: '2.4.1\n',
    'a v': 'v2.4.1',
    '300 characters': `1.0.0-${'a'.repeat(300)}`,
    'huge number': '9999999999999999999.0.0',
    'million characters': '1.'.repeat(500_000),
    backtracking: `1.1.1-${'1a.'.repeat(300_000)}`,
  },
  dictionary: ['.', '-', '+', ' ', '0', '00', 'rc.1', '\n', '999999999', '999999999999999', '-0', 'a'],
  refusals: /^VERSION_INVALID$/,
  start: pure((bytes) => {
    const versions = textOf(bytes).split(' ').map(checkVersion).slice(0, 5);
    for (const a of versions) {
      assert.match(a, /^[0-9][0-9A-Za-z.+-]{0,63}$/);
      for (const b of versions) {
        assert.ok(compareVersions(a, b) + compareVersions(b, a) === 0);
        for (const c of versions) {
          if (compareVersions(a, b) > 0 && compareVersions(b, c) > 0) assert.ok(compareVersions(a, c) > 0);
        }
      }
    }
  }),
};

const WINDOW =
  'updates:\n  maintenance_windows:\n    - {start: "22:00", end: "04:00", timezone: Europe/Berlin, days: [monday]}\n';

const config: Target = {
  name: 'config',
  seeds: {
    empty: '',
    whole:
      'updates:\n  enabled: true\n  server_url: https://u.example:9000/a/\n  check_interval: 15m\n  slots: {A: /dev/a, B: /dev/b}\n',
    window: WINDOW,
    volume: 'updates: {storage_location: volume, volume_path: /mnt/v/}\n',
    listen: 'updates: {listen: "[::1]:8443", tls_cert: /a, tls_key: /b, mirrors: [http://m]}\n',
    aliases: 'a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\nupdates: {}\n',
    'an alias of itself': 'updates: &a {slots: *a}\n',
    'merge key': 'updates:\n  <<: {auto_reboot: true}\n',
    'merge key of YAML 1.1': '%YAML 1.1\n---\nupdates: {<<: {auto_reboot: yes}}\n',
    'the same key twice': 'updates: {enabled: true, enabled: false}\n',
    'prototype of all': 'updates:\n  __proto__: {auto_reboot: true}\n__proto__: {x: 1}\n',
    'tag of a program': 'updates: !!js/function "function () {}"\n',
    binary: 'updates: !!binary aGVsbG8=\n',
    'ordered map': 'updates: !!omap [auto_reboot: false]\n',
    set: 'updates: !!set {auto_reboot}\n',
    timestamp: 'updates: !!timestamp 2001-12-14\n',
    'own tag': '%TAG ! tag:x,2000:\n---\nupdates: !y {}\n',
    'two documents': 'updates: {}\n---\nupdates: {enabled: false}\n',
    'byte order mark': '\ufeffupdates: {}\n',
    '200 levels': '['.repeat(200),
    '10^4 levels': '['.repeat(10_000),
    '10^4 levels of blocks': '- '.repeat(10_000),
    '10^4 keys': Array.from({ length: 10_000 }, (_, i) => `k${i}: 1\n`).join(''),
    '10^4 anchors': Array.from({ length: 10_000 }, (_, i) => `- &k${i} 1\n`).join(''),
    'a million spaces': `${' '.repeat(1 << 20)}a`,
    'a long address': `updates: {server_url: "http://${'a/'.repeat(400_000)}"}`,
    'complex key': '? {a: 1}\n: updates\n',
  },
  dictionary: [
    ...SETTINGS.map((name) => `${name}: `),
    '  ',
    '\n',
    '- ',
    ': ',
    '? ',
    '{',
    '}',
    '[',
    ']',
    '&a ',
    '*a',
    '<<: ',
    '!!omap ',
    '!!set ',
    '!!map ',
    '!!str ',
    '!x ',
    '%YAML 1.1\n---\n',
    '---\n',
    '|\n',
    '>\n',
    '"',
    "'",
    '#',
    '~',
    'true',
    '0x10',
    '.inf',
    '1h',
    '\t',
    '__proto__: ',
  ],
  refusals: /^CONFIG_INVALID$/,
  covers: /\/src\/.*\.ts$|\/node_modules\/yaml\/dist\/(?:parse|compose)\//,
  start: pure((bytes) => {
    const read = readConfig([{ path: '/etc/limiquantix/node.yaml', text: textOf(bytes) }]);
    assert.match(read.serverUrl ?? 'http://nobody', /^https?:\/\/[^\s?#@]+$/);
    for (const path of [read.stagingDirectory, read.backupDirectory, read.slots.A, read.slots.B])
      assert.match(path, /^\/[^\0]*$/);
    assert.ok(read.checkIntervalMs > 0 && read.healthTimeoutMs > 0 && Number.isInteger(read.maxBackups));
  }),
};

/** A disk of 34 sectors with three partitions. */
function gpt(change: (view: DataView) => void = () => undefined): Uint8Array {
  const bytes = new Uint8Array(34 * 512);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode('EFI PART'), 512);
  view.setBigUint64(512 + 72, 2n, true);
  view.setUint32(512 + 80, 128, true);
  view.setUint32(512 + 84, 128, true);
  for (let i = 0; i < 3; i++) {
    bytes.fill(0x11 * (i + 1), 1024 + 128 * i, 1024 + 128 * i + 32);
    for (const [at, letter] of [...`QUANTIX-${'ABC'[i]}`].entries())
      view.setUint16(1024 + 128 * i + 56 + 2 * at, letter.charCodeAt(0), true);
  }
  change(view);
  return bytes;
}

function pc(): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  view.setUint32(440, 0x1234abcd, true);
  for (const at of [450, 482]) bytes[at] = 0x83;
  view.setUint16(510, 0xaa55, true);
  return bytes;
}

const partitionTable: Target = {
  name: 'partition-table',
  seeds: {
    gpt: gpt(),
    'entries beyond all numbers': gpt((view) => view.setBigUint64(512 + 72, 0xffff_ffff_ffff_ffffn, true)),
    'entries of no size': gpt((view) => view.setUint32(512 + 84, 0, true)),
    'four billion entries': gpt((view) => view.setUint32(512 + 80, 0xffff_ffff, true)),
    'entries over one another': gpt((view) => view.setUint32(512 + 84, 128 + 1, true)),
    'cut short': gpt().subarray(0, 1024 + 200),
    pc: pc(),
    zeros: new Uint8Array(1024),
  },
  dictionary: ['EFI PART', '\x55\xaa', '\xee', '\0\0\0\0', '\xff\xff\xff\xff', 'Q\0U\0'],
  refusals: /^nothing is refused$/,
  start: pure((bytes) => {
    for (const sectorBytes of [512, 4096]) {
      const entries = readPartitionTable(bytes, sectorBytes);
      assert.ok(entries.length <= 1024);
      for (const { number, uuid, label } of entries) {
        assert.ok(number >= 1 && number <= 1024);
        assert.match(uuid, /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}-[0-9a-f]{2})$/);
        assert.ok(label === null || label.length <= 36);
      }
    }
  }),
};

const NOW_MS = Date.UTC(2026, 10, 1);
const POLICY = { maxAttempts: 5, firstDelayMs: 1_000, maxDelayMs: 60_000, maxRetryAfterMs: 3_600_000 };

const retryAfter: Target = {
  name: 'retry-after',
  seeds: {
    seconds: '120',
    date: 'Sun, 01 Nov 2026 00:10:00 GMT',
    past: 'Thu, 01 Jan 1970 00:00:00 GMT',
    'the year 275760': 'Sat, 13 Sep 275760 00:00:00 GMT',
    negative: '-1',
    huge: '9'.repeat(400),
    fraction: '1.5',
    nonsense: 'Mon, soon',
  },
  dictionary: ['Mon, ', ' GMT', ' Jan ', '2026', '00:00:00', '+9999', '(', ')', '-', '0', '9'],
  refusals: /^nothing is refused$/,
  start: pure((bytes) => {
    const waitMs = readRetryAfter(textOf(bytes), NOW_MS);
    assert.ok(waitMs === null || (Number.isFinite(waitMs) && waitMs >= 0));
    const delayMs = retryDelayMs(POLICY, 1, 0.5, waitMs);
    assert.ok(delayMs !== null && delayMs >= 500 && delayMs <= POLICY.maxRetryAfterMs);
  }),
};

export const host: readonly Target[] = [
  grubenv,
  cmdline,
  tries,
  kernel,
  slot,
  partitionTable,
  version,
  config,
  retryAfter,
];
