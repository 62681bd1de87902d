import { appendFile, chmod, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { confirm } from '../../src/agent/confirm.ts';
import { loadConfig } from '../../src/agent/settings.ts';
import type { VerifyResponse } from '../../src/format/agent-documents.ts';
import { agentApi } from '../support/agent-api.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost } from '../support/agent-host.ts';
import { bootState, installedBytes, journalOf, memoryOf, rebootInto } from '../support/agent-machine.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { snapshot } from '../support/snapshot.ts';

/** What an administrator can order of a host, by the handlers of its REST interface, on real files. */

requires({ commands: IMAGE_COMMANDS })('an order', () => {
  const bench = agentBench();
  const consoleOnly = (version: string) => bench.release(version, { components: { 'qx-console': version } });
  const imageOnly = () => bench.release('2.0.0', { image: bench.image('2.0.0') });

  describe('download', () => {
    test('fetches and verifies, touches nothing, and what it fetched is not fetched again', async () => {
      const host = await bench.host([await imageOnly()]);
      const api = agentApi(host);
      const before = await snapshot(host.root);
      expect(await api.ask('download')).toMatchObject({ status: 'started' });
      await api.untilIdle();
      expect(await api.ask('status')).toEqual({ status: 'available', message: 'Version 2.0.0 is downloaded' });
      const after = await snapshot(host.root);
      const changed = Object.keys(after).filter((path) => after[path] !== before[path]);
      expect(changed.every((path) => path.startsWith('data/updates'))).toBe(true);
      const artifacts = () => host.site.requests.filter((path) => path.endsWith('system.squashfs')).length;
      expect(artifacts()).toBe(1);
      await api.ask('apply');
      await api.untilIdle();
      expect(await api.ask('status')).toMatchObject({ status: 'reboot_required' });
      expect(artifacts()).toBe(1);
    });

    test('is refused while something runs, and the refusal changes nothing', async () => {
      const host = await bench.host([await consoleOnly('2.0.0')]);
      const api = agentApi(host);
      const first = api.ask('apply');
      expect(await api.ask('download')).toBe('BUSY');
      expect(await api.ask('apply')).toBe('BUSY');
      await first;
      await api.untilIdle();
      expect(await installedBytes(host.root)).toMatchObject({ 'qx-console': '2.0.0' });
    });
  });

  describe('cancel', () => {
    test('stops a download at its next safe point, with the host as it was', async () => {
      const host = await bench.host([await imageOnly()]);
      const api = agentApi({ ...host, http: { get: stalled(host.site) } });
      await api.ask('apply');
      expect(await api.ask('cancel')).toMatchObject({ status: 'cancelling' });
      await api.untilIdle();
      expect(await api.ask('progress')).toMatchObject({ result: { kind: 'failed', refused: { code: 'CANCELLED' } } });
      expect((await bootState(host.root)).state?.B.ok).toBe(true);
      expect(await api.ask('cancel')).toBe('NOTHING_TO_CANCEL');
      const refused = (await api.audited()).filter(({ code }) => code !== undefined);
      expect(refused).toMatchObject([{ event: 'update_finished', code: 'CANCELLED' }]);
    });

    test('comes too late for an update that waits for its reboot', async () => {
      const host = await bench.host([await imageOnly()]);
      const api = agentApi(host);
      await api.ask('apply');
      await api.untilIdle();
      expect(await api.ask('cancel')).toBe('NOTHING_TO_CANCEL');
      expect((await journalOf(host.root))?.phase).toBe('armed');
    });
  });

  describe('hold', () => {
    test('keeps updates away until it is lifted, also for the next agent', async () => {
      const host = await bench.host([await consoleOnly('2.0.0')]);
      const api = agentApi(host);
      expect(await api.ask('hold', { reason: 'audit week' }, 'tcp')).toMatchObject({ held: { reason: 'audit week' } });
      const next = agentApi(await openHost(host));
      expect(await next.ask('status')).toEqual({ status: 'idle', held: 'audit week' });
      await next.ask('apply');
      await next.untilIdle();
      expect(await next.ask('progress')).toMatchObject({ result: { kind: 'refusal', refused: { code: 'HELD' } } });
      expect(await installedBytes(host.root)).toMatchObject({ 'qx-console': '1.0.0' });
      expect(await next.ask('check')).toMatchObject({ available: true });
      await next.ask('download');
      await next.untilIdle();
      expect(await next.ask('progress')).toMatchObject({ result: { kind: 'downloaded' } });
      expect(await next.ask('unhold')).toEqual({ held: null });
      await next.ask('apply');
      await next.untilIdle();
      expect(await installedBytes(host.root)).toMatchObject({ 'qx-console': '2.0.0' });
      expect(await next.audited()).toMatchObject([
        { event: 'updates_held', actor: 'administrator from 10.0.0.7', detail: 'audit week' },
        { event: 'update_requested', fields: { what: 'apply' } },
        { event: 'release_refused', code: 'HELD' },
        { event: 'update_requested', fields: { what: 'download' } },
        { event: 'updates_released', actor: 'root on the socket' },
        { event: 'update_requested' },
        { event: 'update_started' },
        { event: 'update_finished', fields: { result: 'complete' } },
      ]);
    });
  });

  describe('reset', () => {
    test('dismisses how the last update ended, for the next agent too, and leaves what is installed', async () => {
      const host = await bench.host([await consoleOnly('2.0.0')]);
      host.services.broken.add('qx-console 2.0.0');
      const api = agentApi(host);
      await api.ask('apply');
      await api.untilIdle();
      expect(await api.ask('status')).toMatchObject({ status: 'error' });
      const again = agentApi(await openHost(host));
      expect(await again.ask('status')).toMatchObject({ status: 'error' });
      expect(await again.ask('reset')).toMatchObject({ success: true, previousStatus: 'error', currentStatus: 'idle' });
      expect(await agentApi(await openHost(host)).ask('status')).toEqual({ status: 'idle' });
      expect((await memoryOf(host.root))?.bad).toHaveLength(1);
    });

    test('throws downloads away only when asked to, and nothing that is not ours', async () => {
      const host = await bench.host([await imageOnly()]);
      const api = agentApi(host);
      await api.ask('download');
      await api.untilIdle();
      const staging = join(host.root, 'data/updates/staging');
      await writeFile(join(staging, 'notes.txt'), 'of the operator');
      await writeFile(join(staging, `${'a'.repeat(64)}.part`), 'half');
      await api.ask('reset');
      expect((await stat(join(staging, 'system.squashfs'))).size).toBeGreaterThan(0);
      await api.ask('reset', { downloads: true });
      const left = await host.files.list('/data/updates/staging');
      expect(left).toEqual(['notes.txt']);
    });

    test('begins anew what a host remembers where it cannot be read, without losing the floor', async () => {
      const host = await bench.host([await consoleOnly('2.0.0')]);
      const api = agentApi(host);
      await api.ask('apply');
      await api.untilIdle();
      const path = join(host.root, 'quantix/limiquantix/state.json');
      await writeFile(path, '{"format": 1, "floor"');
      await expect(api.call('check')).rejects.toMatchObject({
        code: 'STATE_INVALID',
        next: expect.stringContaining('qx-update reset --remembered --reason TEXT'),
      });
      expect(await api.ask('reset', { remembered: 'a full disk' }, 'tcp')).toBe('FORBIDDEN');
      expect(await api.ask('reset')).toBe('STATE_INVALID');
      expect(await api.ask('reset', { remembered: 'a full disk' })).toMatchObject({ previousStatus: 'error' });
      expect(await memoryOf(host.root)).toMatchObject({ floor: '1.0.0', committed: { version: '2.0.0' }, bad: [] });
      expect(await readFile(`${path}.bad`, 'utf8')).toBe('{"format": 1, "floor"');
      expect(await api.ask('check')).toMatchObject({ available: false });
      expect((await api.audited()).filter(({ event }) => event === 'memory_begun_anew')).toMatchObject([
        { code: 'STATE_INVALID', actor: 'root on the socket', fields: { reason: 'a full disk', floor: '1.0.0' } },
      ]);
      await api.ask('reset', { remembered: 'once more' });
      expect((await api.audited()).filter(({ event }) => event === 'memory_begun_anew')).toHaveLength(1);
    });

    test('is refused while an update holds the host', async () => {
      const host = await bench.host([await consoleOnly('2.0.0')]);
      const unlock = await host.files.lock('/run/quantix/update.lock');
      expect(await agentApi(host).ask('reset')).toBe('BUSY');
      await unlock?.();
    });
  });

  describe('history', () => {
    test('tells how updates ended, newest first, each once, with the time they took', async () => {
      const host = await bench.host([await consoleOnly('2.0.0')]);
      const api = agentApi(host);
      await api.ask('apply');
      await api.untilIdle();
      await api.ask('rollback', { reason: 'VMs lose their network' });
      const { entries } = (await api.ask('history')) as { entries: object[] };
      expect(entries).toMatchObject([
        { version: '2.0.0', previous_version: '1.0.0', result: 'rolled_back', detail: 'VMs lose their network' },
        {
          version: '2.0.0',
          result: 'complete',
          timings: { download_ms: expect.any(Number), apply_ms: expect.any(Number) },
        },
      ]);
      expect(await metrics(api)).toMatchObject({ update_rollback_count: 0, update_success_rate: 0.5 });
    });

    test('knows how long the reboot took, and the metrics say so', async () => {
      const host = await bench.host([await imageOnly()]);
      const api = agentApi(host);
      await api.ask('apply');
      await api.untilIdle();
      expect(await api.call('reboot')).toMatchObject({ json: { status: 'rebooting' } });
      await expect.poll(() => host.machine.reboots).toBe(1);
      await rebootInto(host.root, bench.known());
      const next = await openHost(host);
      next.clock.advance(42_000);
      expect(await confirm(next)).toMatchObject({ kind: 'confirmed' });
      const seconds = (await metrics(agentApi(next))).update_reboot_seconds;
      expect(seconds).toBeGreaterThanOrEqual(42);
      expect(seconds).toBeLessThan(120);
    });
  });

  describe('reboot', () => {
    test.each([
      ['reboot', undefined],
      ['apply', { force_reboot: true }],
    ] as const)('by %s does not wait for the end of a pause after a drain', async (order, body) => {
      const host = await bench.host([await imageOnly()]);
      const path = join(host.root, 'quantix/limiquantix/drain-pause.json');
      const at = new Date(host.clock.nowMs()).toISOString();
      const pause = { format: 1, failures: 3, at, pause_ms: 4 * 3_600_000, reason: 'gpu-1 is still here' };
      await writeFile(path, JSON.stringify(pause));
      const api = agentApi(host);
      await api.call(order, body);
      await api.untilIdle();
      expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ failures: 3, pause_ms: 0 });
    });

    test('is refused while something inhibits it, and says what', async () => {
      const host = await bench.host();
      Object.assign(host.grants, { reboot: { granted: false, reason: 'drain: 3 VMs to go' } });
      const api = agentApi(host);
      expect(await api.call('reboot')).toMatchObject({
        refused: { code: 'REBOOT_REFUSED', message: 'drain: 3 VMs to go' },
      });
      expect(host.machine.reboots).toBe(0);
    });
  });

  describe('settings', () => {
    test('count at once, outlive a reboot of the host, and keep what else the file says', async () => {
      const host = await bench.host();
      const path = join(host.root, 'quantix/limiquantix/node.yaml');
      await writeFile(path, '# by hand\nupdates:\n  # slow line\n  health_timeout: 5m\n  auto_apply: true\n');
      const api = agentApi(host);
      const change = {
        channel: 'stable',
        checkIntervalSecs: 7200,
        autoApply: null,
        mirrors: ['https://b.example:9000'],
      };
      expect(await api.ask('changeConfig', change, 'tcp')).toMatchObject({
        channel: 'stable',
        checkInterval: '2h',
        checkIntervalSecs: 7200,
        autoApply: false,
        healthTimeout: '5m',
      });
      expect(await readFile(path, 'utf8')).toBe(
        '# by hand\nupdates:\n  # slow line\n  health_timeout: 5m\n  check_interval: 7200s\n  channel: stable\n  mirrors:\n    - https://b.example:9000\n',
      );
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      expect(await loadConfig(host.files)).toMatchObject({ channel: 'stable', mirrors: ['https://b.example:9000'] });
      expect(await api.audited()).toMatchObject([
        {
          event: 'settings_changed',
          actor: 'administrator from 10.0.0.7',
          fields: { channel: '"stable"', autoApply: 'null' },
        },
      ]);
    });

    test('that no agent would start with are refused, and the file stays as it is', async () => {
      const host = await bench.host();
      const api = agentApi(host);
      const zone = [{ start: '01:00', end: '02:00', timezone: 'Mars/Olympus' }];
      expect(await api.ask('changeConfig', { maintenanceWindows: zone })).toBe('CONFIG_INVALID');
      expect(await api.ask('changeConfig', { storageLocation: 'volume' })).toBe('CONFIG_INVALID');
      expect(await host.files.info('/quantix/limiquantix/node.yaml')).toBeNull();
      await host.files.writeAtomic('/quantix/limiquantix/node.yaml', new TextEncoder().encode('updates: [oops\n'));
      expect(await api.ask('changeConfig', { channel: 'beta' })).toBe('CONFIG_INVALID');
    });

    test('two writers at once: each change is whole, none is lost in silence', async () => {
      const host = await bench.host();
      const [one, two] = [agentApi(host), agentApi(await openHost(host))];
      const answers = await Promise.all([
        one.ask('changeConfig', { channel: 'beta' }),
        two.ask('changeConfig', { maxBackups: 7 }),
      ]);
      const config = await loadConfig(host.files);
      const kept = [config.channel === 'beta', config.maxBackups === 7];
      expect(kept).toEqual(answers.map((answer) => answer !== 'BUSY'));
    });
  });

  test('verify reads both slots back and says which one is not what was written', async () => {
    const host = await bench.host([await imageOnly()]);
    const api = agentApi(host);
    await api.ask('apply');
    await api.untilIdle();
    expect(await api.ask('verify')).toMatchObject({
      ok: true,
      checked: [
        { what: 'slot A', result: 'unknown' },
        { what: 'slot B', result: 'ok' },
        { what: 'host-ui', result: 'unknown' },
        { what: 'qx-console', result: 'unknown' },
        { what: 'qx-node', result: 'unknown' },
        { what: 'audit log', result: 'ok' },
      ],
    });
    const slot = join(host.root, 'slots/b');
    const bytes = await readFile(slot);
    bytes[700_123] = (bytes[700_123] ?? 0) ^ 1;
    await writeFile(slot, bytes);
    expect(await api.ask('verify')).toMatchObject({
      ok: false,
      checked: [{}, { what: 'slot B', result: 'differs' }, {}, {}, {}, {}],
    });
  });

  test('verify holds components against what was signed, and what it advises repairs them', async () => {
    const host = await bench.host([
      await bench.release('2.0.0', { components: { 'qx-console': '2.0.0', 'host-ui': '2.0.0' } }),
    ]);
    const api = agentApi(host);
    const checked = async () =>
      Object.fromEntries(
        ((await api.ask('verify')) as VerifyResponse).checked.map(({ what, result }) => [what, result]),
      );
    expect(await checked()).toMatchObject({ 'qx-console': 'unknown' });
    await api.ask('apply');
    await api.untilIdle();
    expect(await checked()).toMatchObject({ 'qx-console': 'ok', 'host-ui': 'ok' });

    const [console, page] = [join(host.root, 'data/bin/qx-console'), join(host.root, 'data/share/host-ui')];
    await appendFile(console, 'x');
    await writeFile(join(page, 'planted.js'), '');
    expect(await checked()).toMatchObject({ 'qx-console': 'differs', 'host-ui': 'differs' });
    await rm(join(page, 'planted.js'));
    expect(await checked()).toMatchObject({ 'qx-console': 'differs', 'host-ui': 'ok' });
    await chmod(join(page, 'index.html'), 0o666);
    expect(await checked()).toMatchObject({ 'host-ui': 'differs' });

    for (const name of ['qx-console', 'host-ui']) await rm(join(host.root, `data/versions/${name}.version`));
    await api.ask('apply', { components: ['qx-console', 'host-ui'] });
    await api.untilIdle();
    expect(await checked()).toMatchObject({ 'qx-console': 'ok', 'host-ui': 'ok' });
    await rm(console);
    expect(await checked()).toMatchObject({ 'qx-console': 'differs' });
    await api.ask('rollback');
    expect(await checked()).toEqual({
      'slot A': 'unknown',
      'slot B': 'unknown',
      'qx-node': 'unknown',
      'audit log': 'ok',
    });
  });

  test('rollback over the interface lets the agent be started anew instead of ending it in the middle', async () => {
    const host = await bench.host([await bench.release('2.0.0', { components: { 'qx-node': '2.0.0' } })]);
    const api = agentApi(host);
    await api.ask('apply');
    await api.untilIdle();
    expect(await api.ask('rollback')).toEqual({ kind: 'rolled_back', from: '2.0.0', to: '1.0.0' });
    expect(api.restarts()).toBe(2);
    expect(host.services.restarts).not.toContain('quantix-node');
  });

  test('mark and confirm answer as the command line does', async () => {
    const host = await bench.host();
    const api = agentApi(host);
    expect(await api.ask('mark', { mark: 'bad', slot: 'B' })).toEqual({
      kind: 'marked',
      slot: 'B',
      mark: 'bad',
      next: 'A',
    });
    expect(await api.ask('mark', { mark: 'bad', slot: 'A' })).toBe('SLOT_RUNNING');
    expect(await api.ask('confirm')).toBe('NOTHING_TO_CONFIRM');
  });

  test('events: the state at once, then each change of it, until the reader leaves', async () => {
    const host = await bench.host([await consoleOnly('2.0.0')]);
    const api = agentApi(host);
    const reply = await api.call('events');
    if (!('stream' in reply)) throw new Error('no stream');
    const seen: string[] = [];
    for await (const bytes of reply.stream) {
      const text = new TextDecoder().decode(bytes);
      seen.push(text);
      if (seen.length === 2) void api.ask('apply');
      if (text.includes('"complete"')) break;
    }
    expect(seen[0]).toBe('event: status\ndata: {"status":"idle"}\n\n');
    expect(seen[1]).toMatch(/^event: progress\ndata: \{"busy":false/);
    expect(seen.at(-1)).toContain('complete');
  });
});

async function metrics(api: ReturnType<typeof agentApi>): Promise<Record<string, number>> {
  const reply = await api.call('metrics');
  if (!('bytes' in reply)) throw new Error('no text');
  const lines = new TextDecoder().decode(reply.bytes).split('\n');
  return Object.fromEntries(
    lines
      .filter((l) => /^[a-z_]+ [0-9.]+$/.test(l))
      .map((l) => l.split(' '))
      .map(([n, v]) => [n, Number(v)]),
  );
}

/** A server whose artifacts never arrive. */
const stalled =
  (site: { get: TestGet }): TestGet =>
  async (url, request) => {
    if (!url.includes('system.squashfs')) return site.get(url, request);
    const { signal } = request;
    if (signal?.aborted !== true) await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    throw Object.assign(new Error('aborted'), { code: 'ABORT_ERR' });
  };
type TestGet = Awaited<ReturnType<ReturnType<typeof agentBench>['host']>>['http']['get'];
