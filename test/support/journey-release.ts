import { join } from 'node:path';
import { execa } from 'execa';
import { expect } from 'vitest';
import { type ImageOf, type JourneyOptions, setOut } from './journey.ts';
import { bothMayBoot } from './journey-good.ts';
import { type JourneyHost, sha256Of } from './journey-host.ts';
import { TOKEN } from './journey-server.ts';

/** A whole release, from the script of the engineer to a confirmed slot, on whatever machine. */
export async function expectGoodRelease(imageOf: ImageOf, options: Omit<JourneyOptions, 'first'> = {}): Promise<void> {
  const first = await imageOf('1.0.0');
  const { image } = await imageOf('1.1.0');
  const { folder, desk, server, host } = await setOut({ first, ...options });
  const args = ['--version', '1.1.0', '--image', image, '--executable', 'dist/host/bin/qx-node'];
  const trust = ['--key', desk.privateKey, '--keyring', desk.keyring, '--server', server.url];
  await execa(join('scripts', 'publish-update.sh'), [...args, ...trust, '--out', join(folder, 'release')], {
    env: { QX_TOKEN: TOKEN },
    stdin: 'ignore',
  });

  await host.boot();
  const trial = await expectInstalled(host, image);
  await host.goDown();
  await expectConfirmed(host, trial);
}

/** From slot A, with everything that waits for the reboot. Answers the id of the trial. */
async function expectInstalled(host: JourneyHost, image: string): Promise<string> {
  expect(await host.update('check')).toMatchObject({
    exitCode: 0,
    output: expect.stringContaining('1.0.0 -> 1.1.0'),
  });
  expect(await host.update('plan')).toMatchObject({ exitCode: 0, output: expect.stringContaining('then a reboot') });
  const applied = await host.update('apply');
  expect(applied, applied.output).toMatchObject({ exitCode: 4 });

  const installed = {
    '/data/bin/qx-node': 'dist/host/bin/qx-node',
    '/data/bin/qx-console': 'openrc/qx-console',
    '/data/share/quantix-host-ui/index.html': 'src/ui/host/index.html',
  };
  for (const [path, source] of Object.entries(installed)) {
    expect([path, await host.sha256(path)]).toEqual([path, await sha256Of(source)]);
  }
  for (const name of ['qx-node', 'qx-console', 'host-ui']) {
    expect(await host.text(`/data/versions/${name}.version`)).toBe('1.1.0');
  }
  expect(await host.slotSha256('B', image)).toBe(await sha256Of(image));
  const armed = await host.journal();
  expect(armed).toMatchObject({ phase: 'armed', pending: true, previous_slot: 'A', target_slot: 'B' });
  const trial = armed?.id ?? '';
  expect(await host.environment()).toEqual({
    order: ['B', 'A'],
    A: { ok: true, tries: 0 },
    B: { ok: false, tries: 3 },
    trial,
    failed: '',
  });
  return trial;
}

async function expectConfirmed(host: JourneyHost, trial: string): Promise<void> {
  const { slot, cmdline } = await host.boot();
  expect([slot, cmdline]).toEqual(['B', expect.stringContaining(`quantix.trial=${trial}`)]);
  expect(await host.text('/run/quantix/confirmed')).toBe(trial);
  expect(await host.environment()).toEqual(bothMayBoot('B', 'A'));
  expect(await host.journal()).toMatchObject({ phase: 'complete', pending: false, error: null, boot_attempts: 1 });
  expect(await host.memory()).toMatchObject({ committed: { version: '1.1.0' }, bad: [] });
  expect(await host.ask('status')).toMatchObject({ status: 'complete', currentVersion: '1.1.0' });
  expect(await host.ask('slots')).toMatchObject({
    slots: [
      { slot: 'A', running: false, next: false, ok: true },
      { slot: 'B', running: true, next: true, ok: true, version: '1.1.0', onTrial: false },
    ],
  });
  expect(await host.update('apply')).toMatchObject({ exitCode: 3 });
  expect(await host.update('check')).toMatchObject({ exitCode: 3 });
}
