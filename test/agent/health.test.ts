import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import { confirm } from '../../src/agent/confirm.ts';
import { ordinaryBoot } from '../../src/agent/health.ts';
import { install } from '../../src/agent/install.ts';
import { reboot as rebootNow } from '../../src/agent/reboot.ts';
import { QxError } from '../../src/errors.ts';
import { readBaseline } from '../../src/format/baseline.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import { journalOf, rebootInto } from '../support/agent-machine.ts';
import { fullRelease } from '../support/agent-powercut.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** The health gate held against what was before the update: services, network, and what the operator's hooks say. */

const ROUTES =
  'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n' +
  'br0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n';

requires({ commands: IMAGE_COMMANDS })('after a reboot the host is held against what it was', () => {
  const bench = agentBench();
  const place = { host: null as TestHost | null };
  const host = (): TestHost => place.host as TestHost;
  const at = (path: string): string => join(host().root, path);
  const put = async (path: string, text: string, mode = 0o644): Promise<void> => {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), text, { mode });
  };
  const hook = (name: string, lines: string, mode = 0o755) =>
    put(`etc/limiquantix/health.d/${name}`, `#!/bin/sh\n${lines}\n`, mode);

  beforeEach(async () => {
    place.host = await bench.host([await fullRelease(bench, '2.0.0')]);
    // Where programs may be run: not all machines allow it in /dev/shm.
    const settings = await mkdtemp(join(tmpdir(), 'quantix-hooks-'));
    onTestFinished(() => rm(settings, { recursive: true }));
    await rm(at('etc/limiquantix'), { recursive: true, force: true });
    for (const path of ['etc/limiquantix', 'quantix/limiquantix/health.d']) {
      await mkdir(join(settings, path), { recursive: true });
      await symlink(join(settings, path), at(path));
    }
    await put('run/openrc/started/libvirtd', '');
    await put('etc/init.d/libvirtd', '');
    await put('sys/class/net/br0/bridge/bridge_id', '');
    await put('sys/class/net/eth0/address', '');
    await put('proc/net/route', ROUTES);
  });

  /** Installs, reboots, lets the new system come up as `change` has it, and asks whether it is kept. */
  const confirmed = async (change: () => Promise<unknown> = async () => undefined) => {
    await install(host(), {}, {});
    expect(await rebootInto(host().root, bench.known())).toMatchObject({ slot: 'B', how: 'trial' });
    await put('run/openrc/started/libvirtd', '');
    await change();
    return confirm(await openHost({ ...host(), settings: ['health_attempts: 1'] }));
  };
  const baseline = async (): Promise<readonly string[]> =>
    readBaseline(new Uint8Array(await readFile(at('quantix/limiquantix/baseline.json')))).facts;

  test('one that is as before is kept, and what it was held against is on the disk', async () => {
    await hook('10-vms', 'echo web1; echo "  db1 "');
    expect(await confirmed()).toMatchObject({ kind: 'confirmed', warnings: [] });
    expect(await baseline()).toEqual([
      'service libvirtd',
      'bridge br0',
      'default route (IPv4)',
      'hook 10-vms',
      '10-vms: web1',
      '10-vms: db1',
    ]);
  });

  describe('one that lacks what it had is turned back, and says what', () => {
    test.each([
      ['a service', 'service libvirtd', () => rm(at('run/openrc/started/libvirtd'))],
      ['a bridge', 'bridge br0', () => rm(at('sys/class/net/br0'), { recursive: true })],
      ['the default route', 'default route (IPv4)', () => put('proc/net/route', ROUTES.split('br0')[0] ?? '')],
      ['a guest', '10-vms: web1', () => hook('10-vms', 'echo db1')],
    ])('%s', async (_what, fact, change) => {
      await hook('10-vms', 'echo web1; echo db1');
      expect(await confirmed(change)).toMatchObject({
        kind: 'rolling_back',
        failed: [{ name: 'baseline', detail: `not as before the update: ${fact}` }],
      });
      expect((await journalOf(host().root))?.error).toMatchObject({
        code: 'UNHEALTHY',
        detail: expect.stringContaining(fact),
      });
    });

    test('a hook that is not well any more, in its own words', async () => {
      await hook('20-storage', 'exit 0');
      const result = await confirmed(() => hook('20-storage', 'echo "pool tank is gone" >&2; exit 3'));
      expect(result).toMatchObject({
        kind: 'rolling_back',
        failed: [{ name: '20-storage', detail: 'exit code 3: pool tank is gone' }],
      });
    });

    test('a hook that hangs, which is ended each time, and so is what it started', async () => {
      await hook('30-hangs', 'exit 0');
      await install(host(), {}, {});
      await rebootInto(host().root, bench.known());
      await put('run/openrc/started/libvirtd', '');
      await hook('30-hangs', `sleep 600 & echo $! >"${at('child')}"; wait`);
      const next = await openHost({ ...host(), settings: ['health_attempts: 1'] });
      // Ten seconds of the host's clock are a short while of ours.
      const run: typeof next.hooks.run = (path, options) => {
        next.clock.advance(options.timeoutMs);
        return next.hooks.run(path, { ...options, timeoutMs: 300 });
      };
      expect(await confirm({ ...next, hooks: { run } })).toMatchObject({
        kind: 'rolling_back',
        failed: [{ name: '30-hangs', detail: expect.stringContaining('did not end within') }],
      });
      const child = (await readFile(at('child'), 'utf8')).trim();
      // Nobody may have taken note of its end yet.
      const stat = await readFile(`/proc/${child}/stat`, 'utf8').catch(() => 'gone');
      expect(stat).toMatch(/^gone$|\) Z /);
    });
  });

  describe('an update is not blamed for', () => {
    test('a hook that was not well before', async () => {
      await hook('20-storage', 'exit 3');
      expect(await confirmed()).toMatchObject({ kind: 'confirmed', warnings: [{ name: '20-storage' }] });
    });

    test('a hook that came with it', async () => {
      expect(await confirmed(() => hook('20-storage', 'exit 3'))).toMatchObject({
        kind: 'confirmed',
        warnings: [{ name: '20-storage' }],
      });
    });

    test('the service that asks, and is started when it has been answered', async () => {
      await put('run/openrc/started/local', '');
      await put('etc/init.d/local', '');
      const result = await confirmed(() => put('run/openrc/starting/local', ''));
      expect(result).toMatchObject({ kind: 'confirmed', warnings: [] });
    });

    test('a service that the new image does not bring any more', async () => {
      const gone = () => Promise.all([rm(at('run/openrc/started/libvirtd')), rm(at('etc/init.d/libvirtd'))]);
      expect(await confirmed(gone)).toMatchObject({ kind: 'confirmed', warnings: [] });
    });

    test('guests that left before the reboot that the agent made', async () => {
      await hook('10-vms', 'echo web1');
      await install(host(), {}, {});
      await hook('10-vms', 'exit 0');
      await rebootNow(host(), 'test');
      expect(await baseline()).not.toContain('10-vms: web1');
      await rebootInto(host().root, bench.known());
      await put('run/openrc/started/libvirtd', '');
      expect(await confirm(await openHost(host()))).toMatchObject({ kind: 'confirmed', warnings: [] });
    });

    test.each([
      ['is not there', () => rm(at('quantix/limiquantix/baseline.json'))],
      ['is damaged', () => put('quantix/limiquantix/baseline.json', '{"format":1,"facts":')],
      ['is of a newer agent', () => put('quantix/limiquantix/baseline.json', '{"format":2}')],
      [
        'is of another update',
        async () => {
          const text = await readFile(at('quantix/limiquantix/baseline.json'), 'utf8');
          await put('quantix/limiquantix/baseline.json', text.replace(/"id": "[^"]+"/, '"id": "another"'));
        },
      ],
    ])('anything when what was before %s', async (_what, harm) => {
      const result = await confirmed(async () => [
        await harm(),
        await rm(at('sys/class/net/br0'), { recursive: true }),
      ]);
      expect(result).toMatchObject({ kind: 'confirmed', warnings: [] });
    });
  });

  describe('an ordinary boot', () => {
    const sick = (next: TestHost) => void Object.assign(next.socket, { answers: false });
    const booted = async (change: (next: TestHost) => unknown = () => undefined) => {
      const next = await openHost(host());
      await change(next);
      return { next, result: await ordinaryBoot(next, {}) };
    };
    const told = async () =>
      (await readAudit(host().files)).events.map(({ event, fields }) => [event, fields?.stays_up]);

    test('that is healthy is left alone', async () => {
      const { next, result } = await booted();
      expect([result, next.machine.reboots]).toEqual([{ kind: 'healthy', warnings: [] }, 0]);
    });

    test('that is not is ended once; the next one stays up, until one was healthy', async () => {
      const first = await booted(sick);
      expect(first.result).toMatchObject({ kind: 'rebooting', failed: [{ name: 'agent' }] });
      const second = await booted(sick);
      expect(second.result).toMatchObject({ kind: 'staying_up', reason: 'it was rebooted for this before' });
      expect(await told()).toEqual([
        ['boot_unhealthy', null],
        ['reboot_requested', undefined],
        ['boot_unhealthy', 'it was rebooted for this before'],
      ]);
      await booted();
      const later = await booted(sick);
      expect([first, second, later].map(({ next }) => next.machine.reboots)).toEqual([1, 0, 1]);
    });

    test.each([
      ['an inhibitor', () => put('run/quantix/inhibit/backup', 'runs until six'), 'runs until six'],
      [
        'no open window',
        (next: TestHost) => {
          next.grants.reboot = { granted: false, reason: 'no maintenance window is open' };
        },
        'no maintenance window is open',
      ],
    ])('that is not is not ended against %s', async (_what, change, reason) => {
      const { next, result } = await booted(async (now) => [sick(now), await change(now)]);
      expect(result).toMatchObject({ kind: 'staying_up', reason: expect.stringContaining(reason) });
      expect(next.machine.reboots).toBe(0);
    });

    test('that is not is not ended when that cannot be noted: it would be for ever', async () => {
      const next = await openHost(host());
      sick(next);
      const writeAtomic: typeof next.files.writeAtomic = (path, ...rest) =>
        path.includes('unhealthy-boot')
          ? Promise.reject(new QxError('NO_SPACE', 'full'))
          : next.files.writeAtomic(path, ...rest);
      await expect(ordinaryBoot({ ...next, files: { ...next.files, writeAtomic } }, {})).rejects.toThrow('full');
      expect(next.machine.reboots).toBe(0);
    });
  });

  describe('which programs are hooks', () => {
    test('those of /quantix take the place of the image’s own, and may switch them off', async () => {
      await hook('10-vms', 'echo image');
      await hook('20-storage', 'echo image');
      await symlink('/dev/null', at('quantix/limiquantix/health.d/20-storage'));
      await put('quantix/limiquantix/health.d/10-vms', '#!/bin/sh\necho ours\n', 0o755);
      await install(host(), {}, {});
      expect((await baseline()).filter((fact) => fact.includes(': '))).toEqual(['10-vms: ours']);
    });

    test('none that others than root may write to: root would run what they wrote', async () => {
      await hook('10-vms', `echo ran >"${at('ran')}"`);
      await chmod(at('etc/limiquantix/health.d/10-vms'), 0o757);
      const result = await confirmed();
      expect(result).toMatchObject({ kind: 'confirmed', warnings: [{ name: '10-vms' }] });
      await expect(readFile(at('ran'))).rejects.toThrow('ENOENT');
    });

    test.each(['10-vms~', '10-vms.dpkg-old', '.10-vms.swp', 'README.md'])('not %s', async (name) => {
      await hook(name, `echo ran >"${at('ran')}"; exit 1`);
      expect(await confirmed()).toMatchObject({ kind: 'confirmed', warnings: [] });
      await expect(readFile(at('ran'))).rejects.toThrow('ENOENT');
    });

    test('not a text that is no program', async () => {
      await hook('10-notes', 'exit 1', 0o644);
      expect(await confirmed()).toMatchObject({ kind: 'confirmed', warnings: [] });
    });
  });
});
