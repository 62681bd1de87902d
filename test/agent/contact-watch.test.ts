import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { confirm } from '../../src/agent/confirm.ts';
import { contactWatch } from '../../src/agent/contact-watch.ts';
import { install } from '../../src/agent/install.ts';
import type { HttpRequest } from '../../src/ports.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import { bootState, journalOf, rebootInto } from '../support/agent-machine.ts';
import { fullRelease } from '../support/agent-powercut.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
const ROUTES = `${HEAD}br0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n`;
const ROUTES6 = `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 br0\n`;
const arp = (flags: string): string =>
  'IP address       HW type     Flags       HW address            Mask     Device\n' +
  `192.168.1.1      0x1         ${flags}         52:55:0a:00:02:02     *        br0\n`;
const [ANSWERS, SILENT] = [arp('0x2'), arp('0x0')];
const HOUR_MS = 3_600_000;

requires({ commands: IMAGE_COMMANDS })('a host that nobody answers after an update', () => {
  const bench = agentBench();
  const place = { host: null as TestHost | null };
  const host = (): TestHost => place.host as TestHost;
  const put = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(host().root, path)), { recursive: true });
    await writeFile(join(host().root, path), text);
  };
  beforeEach(async () => {
    place.host = await bench.host([await fullRelease(bench, '2.0.0')]);
    await put('proc/net/route', ROUTES);
    await put('proc/net/arp', SILENT);
    await put('sys/class/net/br0/carrier', '1\n');
  });

  /** Up on the new image, which is well; the server has gone. */
  const updated = async (): Promise<TestHost> => {
    await install(host(), {}, {});
    expect(await rebootInto(host().root, bench.known())).toMatchObject({ slot: 'B' });
    const next = await openHost(host());
    expect(await confirm(next)).toMatchObject({ kind: 'confirmed' });
    host().site.goDown(true);
    return next;
  };
  /** The only way out is by IPv6, and this is what `ip` says of the neighbours there; null where there is no `ip`. */
  const withIpv6 = async (next: TestHost, neighbours: string | null): Promise<TestHost> => {
    await put('proc/net/route', HEAD);
    await put('proc/net/ipv6_route', ROUTES6);
    const ip: TestHost['process'] = {
      run: async (argv, options) => {
        if (argv[0] !== 'ip') return next.process.run(argv, options);
        return { exitCode: neighbours === null ? 127 : 0, stdout: neighbours ?? '', stderr: '' };
      },
    };
    return { ...next, process: ip };
  };
  /** As the loop of the agent does, for so long. */
  const live = async (next: TestHost, watch: () => Promise<void>, forMs: number): Promise<void> => {
    for (let passedMs = 0; passedMs <= forMs && next.machine.reboots === 0; passedMs += 60_000) {
      await watch();
      next.clock.advance(60_000);
    }
  };
  const liveOn = async (next: TestHost, forMs: number) => live(next, contactWatch(next), forMs);
  const order = async () => (await bootState(host().root)).state?.order;

  test('goes back after an hour, and says why', async () => {
    const next = await updated();
    await liveOn(next, HOUR_MS - 600_000);
    expect([next.machine.reboots, await order()]).toEqual([0, ['B', 'A']]);
    const again = await openHost(host());
    await liveOn(again, HOUR_MS + 600_000);
    expect([again.machine.reboots, await order()]).toEqual([1, ['A', 'B']]);
    expect(await journalOf(host().root)).toMatchObject({
      phase: 'rolledBack',
      error: { code: 'ROLLED_BACK', detail: expect.stringContaining('nobody answered') },
    });
    expect(again.outcomes).toMatchObject([{ result: 'rolled_back' }]);
  });

  test('stays, when somebody answered once since the boot', async () => {
    const next = await updated();
    host().site.goDown(false);
    await liveOn(next, 0);
    host().site.goDown(true);
    const later = await openHost(host());
    await liveOn(later, 3 * HOUR_MS);
    expect([next.machine.reboots + later.machine.reboots, await order()]).toEqual([0, ['B', 'A']]);
  });

  test.each([
    ['its gateway answers: the old image would not reach the server either', () => put('proc/net/arp', ANSWERS)],
    ['there is no carrier: no image mends a cable', () => put('sys/class/net/br0/carrier', '0\n')],
  ])('stays, when %s', async (_what, change) => {
    const next = await updated();
    await change();
    await liveOn(next, 3 * HOUR_MS);
    expect([next.machine.reboots, await order()]).toEqual([0, ['B', 'A']]);
  });

  test.each([
    ['goes back, when its gateway is silent', 'fe80::1 dev br0 FAILED\n', 1],
    ['stays, when its gateway answers', 'fe80::1 dev br0 lladdr 52:55:0a:00:02:02 router REACHABLE\n', 0],
    ['stays, when nobody can tell whether its gateway answers', null, 0],
  ])('with IPv6 alone: %s', async (_what, neighbours, reboots) => {
    const next = await withIpv6(await updated(), neighbours);
    await liveOn(next, 3 * HOUR_MS);
    expect(next.machine.reboots).toBe(reboots);
  });

  test('stays, when nobody had answered before either', async () => {
    const { site } = host();
    const quiet = {
      ...host(),
      http: { ...site, get: (url: string, request: HttpRequest) => onlyReleases(site, url, request) },
    };
    await install(quiet, {}, {});
    await rebootInto(host().root, bench.known());
    const next = await openHost(host());
    await confirm(next);
    site.goDown(true);
    await liveOn(next, 3 * HOUR_MS);
    expect([next.machine.reboots, await order()]).toEqual([0, ['B', 'A']]);
  });

  test('goes back once it may reboot, and not when somebody answered until then', async () => {
    const next = await updated();
    await put('run/quantix/inhibit/backup', 'runs until six');
    const watch = contactWatch(next);
    await live(next, watch, 2 * HOUR_MS);
    expect([next.machine.reboots, await order()]).toEqual([0, ['B', 'A']]);
    await put('proc/net/arp', ANSWERS);
    await live(next, watch, 600_000);
    await next.files.remove('/run/quantix/inhibit/backup');
    await put('proc/net/arp', SILENT);
    await live(next, watch, 2 * HOUR_MS);
    expect(next.machine.reboots).toBe(0);
  });

  test('an ordinary boot is never turned back for it', async () => {
    await updated();
    await rebootInto(host().root, bench.known());
    const next = await openHost(host());
    await liveOn(next, 3 * HOUR_MS);
    expect([next.machine.reboots, await order()]).toEqual([0, ['B', 'A']]);
  });
});

/** A server that this host reaches for its release by a way that it has no more: a stick, say. */
async function onlyReleases(site: TestHost['site'], url: string, request: HttpRequest) {
  if (!url.endsWith('/health')) return site.get(url, request);
  site.goDown(true);
  try {
    return await site.get(url, request);
  } finally {
    site.goDown(false);
  }
}
