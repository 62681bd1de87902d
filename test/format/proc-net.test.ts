import { execa } from 'execa';
import { expect, test } from 'vitest';
import {
  answersArp,
  answersNeighbour,
  defaultGateways4,
  defaultGateways6,
  hasDefaultRoute4,
  hasDefaultRoute6,
} from '../../src/format/proc-net.ts';
import { requires } from '../support/requires.ts';

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

const gateway6 = { name: 'br0', address: 'fe80::1' };

test('IPv6: the gateway is the one that the route names, as `ip` writes it', () => {
  const none = row6(zeros, '00', '00000003', '    ppp0').replace('fe800000000000000000000000000001', zeros);
  expect(defaultGateways6(row6(zeros, '00', '00000003', '     br0') + none)).toEqual([gateway6]);
});

test.each([
  ['answers', 'fe80::1 dev br0 lladdr 52:55:0a:00:02:02 router REACHABLE', true],
  ['was not asked lately', 'fe80::1 dev br0 lladdr 52:55:0a:00:02:02 STALE', true],
  ['does not answer', 'fe80::1 dev br0 FAILED', false],
  ['does not answer, says busybox', 'fe80::1 dev br0  used 0/0/0 probes 6 FAILED', false],
  ['does not answer any more', 'fe80::1 dev br0 lladdr 52:55:0a:00:02:02 router FAILED', false],
  ['did not answer yet', 'fe80::1 dev br0 INCOMPLETE', false],
  ['is on another line', 'fe80::1 dev eth1 lladdr 52:55:0a:00:02:02 REACHABLE', false],
  ['is another one', 'fe80::11 dev br0 lladdr 52:55:0a:00:02:02 REACHABLE', false],
  ['was never asked', '', false],
])('an IPv6 gateway that %s', (_what, row, expected) => {
  expect(answersNeighbour(`${row}\n`, gateway6)).toBe(expected);
});

/** A cable in a network of its own: someone is at fe80::1 of its other end, and nobody at fe80::77. */
const REAL = `
ip link add v0 type veth peer name v1
unshare -n sleep 60 & other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link set v1 netns $other
ip link set v0 up
nsenter -t $other -n ip link set v1 up
nsenter -t $other -n ip -6 address add fe80::1/64 dev v1 nodad
ip -6 address add fe80::2/64 dev v0 nodad
ip -6 route add default via $1 dev v0
cat /proc/net/ipv6_route
echo ----
sleep 0.5
# What is sent anywhere goes to the gateway.
bash -c 'echo >/dev/udp/2001:db8::1/9' || true
until ip -6 neigh | grep -q -e lladdr -e FAILED; do sleep 0.1; done
ip -6 neigh
`;

requires({ root: true, commands: ['ip', 'unshare', 'nsenter', 'bash'] })('the tables of a real kernel', () => {
  test.each([
    ['fe80::1', true],
    ['fe80::77', false],
  ])('the gateway %s answers: %s', async (address, answers) => {
    const { stdout } = await execa('unshare', ['-n', 'sh', '-euc', REAL, 'sh', address], { timeout: 30_000 });
    const [routes = '', neighbours = ''] = stdout.split('----\n');
    expect(defaultGateways6(routes)).toEqual([{ name: 'v0', address }]);
    expect(answersNeighbour(neighbours, { name: 'v0', address })).toBe(answers);
  });
});
