import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { readAudit } from '../../src/agent/audit.ts';
import { check } from '../../src/agent/check.ts';
import { runAgent } from '../../src/agent/daemon.ts';
import { install } from '../../src/agent/install.ts';
import { reset } from '../../src/agent/reset.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type SteppedClock, steppedClock, type TestHost } from '../support/agent-host.ts';
import { installedBytes } from '../support/agent-machine.ts';
import { codeOf, expectRefusal, expectUntrusted } from '../support/attacks.ts';
import { serve } from '../support/bad-server.ts';
import { attackedHost } from '../support/hostile-site.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** Servers that let time pass, and clocks that do not show it. */

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A wall clock that is wrong, and that a time service sets right at some moment; what measures durations never steps. */
function wrongClock(shows: string, rightAfterMs = Number.POSITIVE_INFINITY): SteppedClock {
  const clock = steppedClock();
  const startMs = clock.nowMs();
  const isRight = () => clock.monotonicMs() - startMs >= rightAfterMs;
  const wrongMs = Date.parse(shows) - startMs;
  const { monotonicMs } = clock;
  return Object.assign(clock, {
    nowMs: () => monotonicMs() + (isRight() ? 0 : wrongMs),
    isSynchronised: async () => isRight(),
  });
}

requires({ commands: IMAGE_COMMANDS })('time', () => {
  const bench = agentBench();
  const release = (version: string, manifest: Partial<Manifest>) =>
    bench.release(version, { components: { 'qx-console': version }, manifest });
  const weekly = { release_date: '2026-11-09T00:00:00Z', expires_at: '2026-11-17T00:00:00Z' };
  const consoleOf = async (host: TestHost) => (await installedBytes(host.root))['qx-console'];
  /** The daemon of the host for so long, one check an hour. */
  const live = async (host: TestHost, forMs: number) => {
    const stop = new AbortController();
    const startMs = host.clock.monotonicMs();
    host.clock.onSleep = () => {
      if (host.clock.monotonicMs() - startMs >= forMs) stop.abort();
    };
    const agent = createAgent(host);
    await runAgent(host, agent, stop.signal);
    await agent.stop();
    host.clock.onSleep = null;
    return agent;
  };

  describe('T15 freeze', () => {
    test('T15 a release that has expired is not installed, and the status says since when the channel is stale', async () => {
      const host = await bench.host([await release('2.0.0', weekly)]);
      host.clock.advance(8 * DAY_MS);
      await expectUntrusted(host, 'EXPIRED');
      const agent = createAgent(host);
      await agent.check();
      expect(await agent.status()).toMatchObject({
        status: 'error',
        message: expect.stringContaining('channel dev is stale since 2026-11-17T00:00:00Z'),
      });
    });

    test('T15 the same envelope for longer than it is good: every check after that is an alarm', async () => {
      const host = await bench.host([await release('1.0.1', weekly)]);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      expect(await codeOf(() => check(host, {}, { known: null }))).toBe('NOTHING_NEWER');
      host.clock.advance(8 * DAY_MS);
      // Also on a host that has this release already: it is the next one that it does not get.
      await expectRefusal(host, 'EXPIRED', () => check(host, {}, { known: null }));
    });

    test('T15 a server that says 304 for ever', async () => {
      const frozen = await release('2.0.0', weekly);
      const { host, server } = await attackedHost(bench, frozen, { envelope: serve(frozen.envelope, '"same"') });
      const cache = { known: null };
      expect(await codeOf(() => check(host, {}, cache))).toBeNull();
      host.clock.advance(8 * DAY_MS);
      await expectRefusal(host, 'EXPIRED', () => check(host, {}, cache));
      expect(server.requests.at(-1)?.headers['if-none-match']).toBe('"same"');
    });

    test('T15 one that was accepted before it expired is finished', async () => {
      const host = await bench.host([await release('2.0.0', weekly)]);
      const outlived = { ...host.http, get: host.http.get };
      outlived.get = async (url, request) => {
        if (url.includes('.tar.zst')) host.clock.advance(9 * DAY_MS);
        return host.site.get(url, request);
      };
      expect(await codeOf(() => install({ ...host, http: outlived }, {}, {}))).toBeNull();
    });
  });

  describe('T16 clock', () => {
    const SETTINGS = ['check_interval: 1h', 'auto_apply: true'];

    test('T16 at 1970 an expired release is as expired as the build date, and the last good release, let it be', async () => {
      const before = await release('2.0.0', {
        release_date: '2025-12-01T00:00:00Z',
        expires_at: '2025-12-31T00:00:00Z',
      });
      const host = await bench.host([before], { clock: wrongClock('1970-01-01T00:00:00Z') });
      await expectUntrusted(host, 'EXPIRED');
      host.site.publish(await release('2.1.0', { release_date: '2026-11-09T00:00:00Z' }));
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      host.site.publish(
        await release('2.2.0', { release_date: '2026-11-01T00:00:00Z', expires_at: '2026-11-08T00:00:00Z' }),
      );
      await expectRefusal(host, 'EXPIRED', () => install(host, {}, {}));
    });

    test('T16 at 1970 at boot and right later: what had expired is refused from then on, the rest is taken, by itself', async () => {
      const clock = wrongClock('1970-01-01T00:00:00Z', 90 * 60_000);
      const host = await bench.host([await release('2.0.0', weekly)], { clock, settings: SETTINGS });
      await live(host, 3 * HOUR_MS);
      expect(await consoleOf(host)).toBe('2.0.0');
      host.site.publish(
        await release('2.1.0', { release_date: '2026-11-01T00:00:00Z', expires_at: '2026-11-08T00:00:00Z' }),
      );
      await live(host, 3 * HOUR_MS);
      expect(await consoleOf(host)).toBe('2.0.0');
    });

    test.each([
      ['2100-01-01T00:00:00Z', 'everything has expired'],
      ['1970-01-01T00:00:00Z', 'the epoch'],
    ])('T16 a clock at %s (%s) that jumps to the right time: the agent recovers without a human', async (shows) => {
      const clock = wrongClock(shows, 2.5 * HOUR_MS);
      const stale = await release('2.0.0', {
        release_date: '2025-12-01T00:00:00Z',
        expires_at: '2025-12-31T00:00:00Z',
      });
      const host = await bench.host([stale], { clock, settings: SETTINGS });
      await live(host, 2 * HOUR_MS);
      expect(await consoleOf(host)).toBe('1.0.0');
      host.site.publish(await release('2.1.0', weekly));
      const agent = await live(host, 3 * HOUR_MS);
      expect(await consoleOf(host)).toBe('2.1.0');
      expect((await agent.status()).status).not.toBe('error');
    });

    test.each([
      ['a right clock that nobody vouches for', '2026-11-10T12:00:00Z', '2026-12-24T00:00:00Z'],
      ['a clock at 1970', '1970-01-01T00:00:00Z', '2099-01-01T00:00:00Z'],
    ])('T16 %s: a release of a signer who is ahead is taken, and shuts no other out', async (_what, shows, date) => {
      const ahead = { release_date: date, sequence: Date.parse(date) / 1000 };
      const host = await bench.host([await release('2.0.0', ahead)], { clock: wrongClock(shows) });
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      const normal = { ...weekly, sequence: Date.parse(weekly.release_date) / 1000 };
      host.site.publish(await release('2.1.0', normal));
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      expect(await consoleOf(host)).toBe('2.1.0');
    });

    test('T16 what a wrong date has left behind goes by a word of root, and only by that', async () => {
      const clock = wrongClock('2099-01-01T00:00:00Z');
      const host = await bench.host(
        [await release('2.0.0', { release_date: '2099-01-01T00:00:00Z', sequence: 4_070_908_800 })],
        {
          clock,
        },
      );
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      const next = await openHost({ root: host.root, site: host.site });
      next.site.publish(await release('2.1.0', { ...weekly, sequence: 7 }));
      await expectRefusal(next, 'SEQUENCE_REPLAYED', () => install(next, {}, {}));
      expect(await reset(next, { downloads: false, seen: true }, 'root')).toBeNull();
      expect(await codeOf(() => install(next, {}, {}))).toBeNull();
      const { events } = await readAudit(next.files);
      expect(events.filter(({ event }) => event === 'status_reset')).toMatchObject([{ fields: { seen: true } }]);
    });

    test('T16 a synchronised clock that is a day behind the release', async () => {
      const host = await bench.host([await release('2.0.0', { release_date: '2026-11-12T00:00:00Z' })]);
      await expectUntrusted(host, 'DATED_AHEAD');
      host.clock.advance(2 * DAY_MS);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
    });
  });
});
