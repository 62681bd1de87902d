import { expect, test } from 'vitest';
import { answersArp, defaultGateways4, hasDefaultRoute4, hasDefaultRoute6 } from '../../src/format/proc-net.ts';

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

test('the gateway is the one that the route names, in the order in which people write it', () => {
  const rows =
    'br0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\nppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n';
  expect(defaultGateways4(HEAD + rows)).toEqual([{ name: 'br0', address: '192.168.2.1' }]);
});

test.each([
  ['answers', '192.168.2.1      0x1         0x2         52:55:0a:00:02:02     *        br0', true],
  ['is written down by hand', '192.168.2.1      0x1         0x6         52:55:0a:00:02:02     *        br0', true],
  ['does not answer', '192.168.2.1      0x1         0x0         00:00:00:00:00:00     *        br0', false],
  ['is on another line', '192.168.2.1      0x1         0x2         52:55:0a:00:02:02     *        eth1', false],
  ['is another one', '192.168.2.11     0x1         0x2         52:55:0a:00:02:02     *        br0', false],
  ['was never asked', '', false],
])('a gateway that %s', (_what, row, expected) => {
  const table = `IP address       HW type     Flags       HW address            Mask     Device\n${row}\n`;
  expect(answersArp(table, { name: 'br0', address: '192.168.2.1' })).toBe(expected);
});
