import { expect, test } from 'vitest';
import { hasDefaultRoute4, hasDefaultRoute6 } from '../../src/format/proc-net.ts';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';

test.each([
  ['a gateway', 'br0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n', true],
  ['a line without a gateway', 'ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n', true],
  ['a network of its own', 'br0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n', false],
  ['half of the addresses', 'tun0\t00000000\t0108000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n', false],
  ['one that is down', 'br0\t00000000\t0101A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n', false],
  ['one that refuses', '*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n', false],
  ['nothing', '', false],
])('IPv4, %s: %j', (_what, rows, expected) => {
  expect(hasDefaultRoute4(HEAD + rows)).toBe(expected);
});

const zeros = '0'.repeat(32);
const row6 = (destination: string, length: string, flags: string, name: string): string =>
  `${destination} ${length} ${zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 ${flags} ${name}\n`;

test.each([
  ['a gateway', row6(zeros, '00', '00000003', '     br0'), true],
  ['what the kernel has while there is none', row6(zeros, '00', '00200200', '      lo'), false],
  ['one that refuses', row6(zeros, '00', '00000201', '     br0'), false],
  ['a network', row6('fe800000000000000000000000000000', '40', '00000001', '     br0'), false],
  ['nothing', '', false],
])('IPv6, %s', (_what, rows, expected) => {
  expect(hasDefaultRoute6(rows)).toBe(expected);
});
