import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Agent, type AgentEvents, createAgent } from '../../src/agent/agent.ts';
import { runAgent, settleAtStart } from '../../src/agent/daemon.ts';
import { install } from '../../src/agent/install.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, steppedClock, type TestHost } from '../support/agent-host.ts';
import { installedBytes, journalOf, memoryOf, rebootInto } from '../support/agent-machine.ts';
import { componentsOf, fullRelease } from '../support/agent-powercut.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

const HOUR_MS = 3_600_000;
/** The test clock stands at noon, Tuesday 10 November 2026. */
const CLOSED = "maintenance_windows: [{ days: [tuesday], start: '14:00', end: '15:00' }]";
const OPEN = "maintenance_windows: [{ days: [tuesday], start: '11:00', end: '15:00' }]";

interface Run {
  /** Milliseconds after the start at which the server was asked for a manifest. */
  readonly checks: readonly number[];
  readonly restarts: number;
}

/** Lets the daemon of a host live for so long. */
async function live(host: TestHost, forMs: number, act?: (agent: Agent) => Promise<unknown>): Promise<Run> {
  const stop = new AbortController();
  const startMs = host.clock.monotonicMs();
  const seen = { checks: [] as number[], restarts: 0, requests: 0 };
  const events: AgentEvents = {
    restart: () => {
      seen.restarts++;
      stop.abort();
    },
  };
  const agent = createAgent(host, events);
  if (await settleAtStart(host)) return seen;
  await act?.(agent);
  host.clock.onSleep = () => {
    const manifests = host.site.requests.filter((path) => path.endsWith('/manifest/signed')).length;
    if (manifests > seen.requests) seen.checks.push(host.clock.monotonicMs() - startMs);
    seen.requests = manifests;
    if (host.clock.monotonicMs() - startMs >= forMs) stop.abort();
  };
  await runAgent(host, agent, stop.signal);
  host.clock.onSleep = null;
  return seen;
}

requires({ commands: IMAGE_COMMANDS })('the agent', () => {
  const bench = agentBench();
  const imageOnly = () => bench.release('2.0.0', { image: bench.image('2.0.0') });
  const consoleOnly = () => bench.release('2.0.0', { components: { 'qx-console': '2.0.0' } });
  const hostWith = async (settings: readonly string[], full = false) =>
    bench.host([full ? await imageOnly() : await consoleOnly()], { settings });
  const phaseOf = async (host: TestHost) => (await journalOf(host.root))?.phase ?? null;

  describe('looks for updates', () => {
    test('first soon after its start, then about every interval, each time a little differently', async () => {
      const host = await hostWith(['check_interval: 1h']);
      const { checks } = await live(host, 3 * HOUR_MS);
      expect(checks.map((ms) => Math.round(ms / HOUR_MS))).toEqual([0, 1, 2]);
      expect(checks[0]).toBeGreaterThan(0);
      expect(checks[0]).toBeLessThanOrEqual(75_000);
      const early = {
        ...(await hostWith(['check_interval: 1h'])),
        random: { id: () => 'a'.repeat(16), unit: () => 0 },
      };
      const [first = 0, second = 0] = (await live(early, 2 * HOUR_MS)).checks;
      expect(second - first).toBeLessThan(HOUR_MS * 0.91);
    });

    test.each([['auto_check: false'], ['enabled: false']])('not at all with %s, auto_apply or not', async (setting) => {
      const host = await hostWith([setting, 'auto_apply: true']);
      expect((await live(host, 3 * HOUR_MS)).checks).toEqual([]);
      expect(host.site.requests).toEqual([]);
      expect(await phaseOf(host)).toBeNull();
    });

    test('and goes on when a check fails, whatever fails', async () => {
      const host = await hostWith(['check_interval: 1h']);
      host.site.goDown(true);
      await live(host, 2 * HOUR_MS);
      const failed = host.log.lines.filter(({ event }) => event === 'step_failed');
      expect(failed.map(({ fields }) => [fields.step, fields.code])).toContainEqual(['check', 'SERVER_UNREACHABLE']);
      host.site.goDown(false);
      expect((await live(host, 2 * HOUR_MS)).checks.length).toBeGreaterThan(0);
    });

    test('and goes on with a journal of a newer agent', async () => {
      const host = await hostWith([]);
      await writeFile(join(host.root, 'quantix/ab-update-state.json'), '{"format": 2}');
      await live(host, 2 * HOUR_MS);
      expect(host.log.lines.map(({ fields }) => fields.step)).toContain('recover');
      expect((await stat(join(host.root, 'run/quantix/started-ok'))).size).toBe(0);
    });

    test('without the clock being able to keep it from doing so', async () => {
      const host = await hostWith(['check_interval: 1h']);
      const back = { ...host.clock, nowMs: () => Date.parse('1999-01-01T00:00:00Z') - host.clock.monotonicMs() };
      const clock = Object.assign(host.clock, { nowMs: back.nowMs });
      expect((await live({ ...host, clock }, 3 * HOUR_MS)).checks.length).toBe(3);
    });
  });

  describe('installs what a check finds', () => {
    test('only with auto_apply', async () => {
      const idle = await hostWith([]);
      await live(idle, 2 * HOUR_MS);
      expect(await phaseOf(idle)).toBeNull();
      const busy = await hostWith(['auto_apply: true']);
      await live(busy, 2 * HOUR_MS);
      expect(await phaseOf(busy)).toBe('complete');
      expect(busy.asked).toEqual(['apply 2.0.0']);
    });

    test('only while a maintenance window is open, and as soon as one opens', async () => {
      const host = await hostWith(['auto_apply: true', 'check_interval: 6h', CLOSED]);
      await live(host, 1.9 * HOUR_MS);
      expect([await phaseOf(host), host.asked]).toEqual([null, []]);
      await live(host, 0.5 * HOUR_MS);
      expect(await phaseOf(host)).toBe('complete');
    });

    test('never a release that was rolled back here', async () => {
      const host = await hostWith(['auto_apply: true'], true);
      await install(host, {}, {});
      for (let boot = 0; boot < 4; boot++) await rebootInto(host.root, bench.known());
      await live(host, 3 * HOUR_MS);
      expect(await phaseOf(host)).toBe('rolledBack');
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
      expect(host.asked).toEqual(['apply 2.0.0']);
    });
  });

  describe('reboots into an installed image', () => {
    test('not by itself: an A/B update waits for somebody to want the reboot', async () => {
      const host = await hostWith(['auto_apply: true'], true);
      await live(host, 3 * HOUR_MS);
      expect(await phaseOf(host)).toBe('armed');
      expect([host.machine.reboots, host.asked]).toEqual([0, ['apply 2.0.0']]);
    });

    test('A/B update requests maintenance mode: nothing reboots before that is granted', async () => {
      const host = await hostWith(['auto_apply: true', 'auto_reboot: true'], true);
      host.grants.reboot = { granted: false, reason: 'VMs are still on this host' };
      await live(host, HOUR_MS);
      expect(host.machine.reboots).toBe(0);
      expect(host.asked).toContain('reboot 2.0.0');
      host.grants.reboot = { granted: true };
      await live(host, 30_000);
      expect(host.machine.reboots).toBeGreaterThan(0);
    });

    test('by auto_reboot in an open window', async () => {
      const host = await hostWith(['auto_apply: true', 'auto_reboot: true', OPEN], true);
      await live(host, HOUR_MS);
      expect(host.machine.reboots).toBeGreaterThan(0);
    });

    test.each(['auto_reboot', 'force_reboot'])('%s does not pass by a closed window', async (which) => {
      const host = await hostWith([CLOSED, `auto_reboot: ${which === 'auto_reboot'}`], true);
      const start = (agent: Agent) => agent.install({ reboot: which === 'force_reboot' });
      await live(host, 1.9 * HOUR_MS, start);
      expect([await phaseOf(host), host.machine.reboots]).toEqual(['armed', 0]);
      expect(host.log.lines.find(({ event }) => event === 'reboot_waits')?.fields.reason).toContain('14:00');
    });

    test.each(['auto_reboot', 'force_reboot'])('%s does not pass by a file in /run/quantix/inhibit', async (which) => {
      const host = await hostWith([`auto_reboot: ${which === 'auto_reboot'}`], true);
      await mkdir(join(host.root, 'run/quantix/inhibit'), { recursive: true });
      await writeFile(join(host.root, 'run/quantix/inhibit/drain'), '3 VMs to go');
      const start = (agent: Agent) => agent.install({ reboot: which === 'force_reboot' });
      await live(host, HOUR_MS, start);
      expect([await phaseOf(host), host.machine.reboots]).toEqual(['armed', 0]);
      const waits = host.log.lines.find(({ event }) => event === 'reboot_waits');
      expect(waits?.fields.reason).toBe('drain inhibits the reboot: 3 VMs to go');
    });

    test('by force_reboot when nothing stands against it', async () => {
      const host = await hostWith([], true);
      await live(host, HOUR_MS, (agent) => agent.install({ reboot: true }));
      expect(host.machine.reboots).toBeGreaterThan(0);
    });

    test('but never out of the trial boot that it was for, before that is confirmed', async () => {
      const host = await hostWith(['auto_reboot: true'], true);
      await createAgent(host).install({ reboot: true });
      await rebootInto(host.root, bench.known());
      const next = await openHost({ ...host, settings: ['auto_reboot: true'] });
      await live(next, HOUR_MS);
      expect([await phaseOf(next), next.machine.reboots]).toEqual(['armed', 0]);
    });

    test('but a wish to reboot ends with the update that it was for', async () => {
      const host = await hostWith([]);
      const agent = createAgent(host);
      await agent.install({ reboot: true });
      expect(await agent.install({ reboot: true })).toMatchObject({ code: 'NOTHING_NEWER' });
      host.site.publish(await fullRelease(bench, '3.0.0'));
      await agent.install({ reboot: false });
      expect(await phaseOf(host)).toBe('armed');
      await live(host, HOUR_MS);
      expect(host.machine.reboots).toBe(0);
    });

    test('also when it is asked for once the update already waits', async () => {
      const host = await hostWith([], true);
      const agent = createAgent(host);
      await agent.install({ reboot: false });
      expect(await agent.install({ reboot: true })).toMatchObject({ kind: 'reboot_required' });
      await live(host, HOUR_MS);
      expect(host.machine.reboots).toBeGreaterThan(0);
    });

    test('by the successor of the agent that was asked, when the update replaced it', async () => {
      const host = await bench.host([await fullRelease(bench, '2.0.0')]);
      const { restarts } = await live(host, HOUR_MS, (agent) => agent.install({ reboot: true }));
      expect([restarts, host.machine.reboots]).toEqual([1, 0]);
      const successor = await openHost(host);
      await live(successor, HOUR_MS);
      expect(successor.machine.reboots).toBeGreaterThan(0);
    });
  });

  describe('and its own executable', () => {
    test('says that it is up after a while, and is no longer counted', async () => {
      const host = await hostWith(['auto_check: false']);
      await mkdir(join(host.root, 'data/updates'), { recursive: true });
      await writeFile(join(host.root, 'data/updates/node-starts'), '2 1.0.0\n');
      await live(host, 0);
      expect(await readFile(join(host.root, 'data/updates/node-starts'), 'utf8')).toBe('2 1.0.0\n');
      await live(host, 60_000);
      expect((await stat(join(host.root, 'run/quantix/started-ok'))).isFile()).toBe(true);
      await expect(stat(join(host.root, 'data/updates/node-starts'))).rejects.toThrow('ENOENT');
    });

    test('says so before it looks for updates the first time', async () => {
      const host = { ...(await hostWith(['auto_apply: true'])), random: { id: () => 'a'.repeat(16), unit: () => 0 } };
      const isUp: boolean[] = [];
      const get: TestHost['http']['get'] = async (...args) => {
        isUp.push((await host.files.info('/run/quantix/started-ok')) !== null);
        return host.site.get(...args);
      };
      await live({ ...host, http: { get } }, HOUR_MS);
      expect(isUp[0]).toBe(true);
    });

    test('makes way for its successor after an update has replaced it, and only then', async () => {
      const other = await hostWith(['auto_apply: true']);
      expect((await live(other, 2 * HOUR_MS)).restarts).toBe(0);
      const own = await bench.host([await fullRelease(bench, '2.0.0')], { settings: ['auto_apply: true'] });
      expect((await live(own, 2 * HOUR_MS)).restarts).toBe(1);
      expect(own.clock.monotonicMs()).toBeLessThan(steppedClock().monotonicMs() + HOUR_MS);
    });

    test('ends at once when recovering put the one back that it was not started from', async () => {
      const host = await bench.host([await fullRelease(bench, '2.0.0')]);
      await install(host, {}, {});
      for (let boot = 0; boot < 4; boot++) await rebootInto(host.root, bench.known());
      const next = await openHost(host);
      const startMs = next.clock.monotonicMs();
      await live(next, HOUR_MS);
      expect(next.clock.monotonicMs()).toBe(startMs);
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    });

    test('was put back by node-run: the release that brought it is a bad one', async () => {
      const host = await bench.host([await bench.release('2.0.0', { components: componentsOf('2.0.0') })]);
      await install(host, {}, {});
      await writeFile(join(host.root, 'data/versions/qx-node.bad'), '1.9.0\n2.0.0\n');
      await writeFile(join(host.root, 'data/versions/qx-node.version'), '1.0.0\n');
      const next = await openHost({ ...host, settings: ['auto_apply: true'] });
      await live(next, 2 * HOUR_MS);
      expect(await memoryOf(host.root)).toMatchObject({ committed: null, bad: [{ version: '2.0.0' }] });
      expect(next.asked).toEqual([]);
      expect(next.log.lines.filter(({ event }) => event === 'agent_failed')).toHaveLength(1);
      await live(next, 60_000);
      expect((await memoryOf(host.root))?.bad).toHaveLength(1);
    });
  });
});
