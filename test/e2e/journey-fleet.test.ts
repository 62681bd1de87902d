import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test, vi } from 'vitest';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { authority } from '../support/certificates.ts';
import { startControlPlane } from '../support/control-plane.ts';
import { type ImageOf, JOURNEY, JOURNEY_TIMEOUT_MS, type Journey, journeyImages, setOut } from '../support/journey.ts';
import { bothMayBoot, publishBoth } from '../support/journey-good.ts';
import { until } from '../support/journey-host.ts';
import { fleetServer } from '../support/journey-server.ts';
import { requires } from '../support/requires.ts';
import { curl } from '../support/update-server.ts';

/** From a join string to a host that was emptied, rebooted inside its grant and is back, with what `npm run build` made. */

vi.setConfig({ testTimeout: 2 * JOURNEY_TIMEOUT_MS });

const site = await authority('site');

/** A host of 1.0.0 that is on and a member, and a server that only members may read, with release 1.1.0. */
async function memberOf(imageOf: ImageOf, environment: Readonly<Record<string, string>> = {}) {
  const journey = await setOut({ first: await imageOf('1.0.0') });
  const { folder, host, server, desk } = journey;
  await publishBoth(journey, '1.1.0', (await imageOf('1.1.0')).image);
  // From here on another one has its releases.
  await server.kill();
  const socket = join(folder, 'server.sock');
  const files = { TLS_CERT: join(folder, 'tls.crt'), TLS_KEY: join(folder, 'tls.key') };
  const { cert, key } = await site.issue('127.0.0.1');
  await writeFile(files.TLS_CERT, cert);
  await writeFile(files.TLS_KEY, key);
  const fleet = await fleetServer(folder, {
    ...files,
    SERVER_SOCKET: socket,
    STATE_DATABASE_URL: `sqlite:${join(folder, 'fleet.db')}`,
    NODE_CA_CERT: join(folder, 'node-ca.crt'),
    NODE_CA_KEY: join(folder, 'node-ca.key'),
    KEYRING: desk.keyring,
    READ_NEEDS_CERTIFICATE: 'true',
    ...environment,
  });
  const operator = async (...args: string[]): Promise<Record<string, unknown>> =>
    JSON.parse((await execa('dist/qx-fleet', [...args, '--socket', socket, '--json'])).stdout);
  const { join: invitation } = await operator('node', 'invite', 'qhci-01', '--host', `127.0.0.1:${fleet.port}`);
  await host.boot();
  await host.untilAgentAnswers();
  const enrolled = await host.update('enroll', String(invitation));
  expect(enrolled, enrolled.output).toMatchObject({ exitCode: 0 });
  expect(enrolled.output).toContain(`This host is qhci-01 in the fleet of ${fleet.url}`);
  expect(await host.update('enroll', String(invitation))).toMatchObject({ exitCode: 3 });
  expect(await host.update('config', 'set', `server_url=${fleet.url}`)).toMatchObject({ exitCode: 0 });
  return { journey, host, fleet, operator };
}

type Operator = Awaited<ReturnType<typeof memberOf>>['operator'];

/** On slot B, kept, and nobody waits for it any more. */
async function expectBack({ host }: Journey, operator: Operator): Promise<void> {
  await host.boot();
  const isCompleted = async () => (await operator('maintenance', 'show', 'qhci-01')).state === 'completed';
  await until('the fleet knows that it is back', isCompleted, 120_000);
  expect(await host.environment()).toMatchObject(bothMayBoot('B', 'A'));
  expect(await operator('maintenance', 'list')).toMatchObject({ count: 0 });
}

async function expectApplied({ host }: Journey): Promise<void> {
  const applied = await host.update('apply', '--reboot');
  expect(applied, applied.output).toMatchObject({ exitCode: 4 });
}

/** Its VMs are processes of the host. */
const DRAIN_PROGRAM = `#!/bin/sh
echo "$1" >>/data/drain-calls
alive() { for f in /data/vms/*; do [ -f "$f" ] && kill -0 "$(cat "$f")" 2>/dev/null && echo "\${f##*/}"; done; true; }
case $1 in
  list) alive ;;
  drain) for vm in $(alive); do kill "$(cat "/data/vms/$vm")"; done ;;
  undrain) ;;
esac
`;

requires(JOURNEY)('a host of a fleet', () => {
  const imageOf = journeyImages();

  test('empties itself, reboots, and tells how it went, though agent and server are killed on the way', async () => {
    const { journey, host, fleet, operator } = await memberOf(imageOf);
    const program = '/quantix/limiquantix/drain.d/vms';
    const lines = [
      `mkdir -p ${program.slice(0, -4)} /data/vms`,
      `cat >${program} <<'PROGRAM'`,
      DRAIN_PROGRAM,
      'PROGRAM',
    ];
    await host.run('sh', '-c', [...lines, `chmod 755 ${program}`].join('\n'));
    for (const vm of ['vm-1', 'vm-2']) {
      await host.run('sh', '-c', `sleep 1000 >/dev/null 2>&1 & echo $! >/data/vms/${vm}`);
    }
    expect((await host.update('plan')).output).toMatch(/drain\.d empty this host\n {2}vm-1\n {2}vm-2/);
    await expectApplied(journey);
    await until('the status says what it waits for', async () => {
      const { waitsFor = '' } = await host.ask('status');
      return String(waitsFor).includes('VMs');
    });
    // Neither of them remembers anything but what is on its disk.
    await fleet.kill();
    await fleet.start();
    await host.run('kill', '-9', (await host.pidOf('quantix-node')).trim());
    await host.untilDown('it waits for its turn');
    expect(await operator('maintenance', 'show', 'qhci-01')).toMatchObject({
      state: 'rebooting',
      holds_place: true,
      total_vms: 2,
      migrated_vms: 2,
      target_version: '1.1.0',
    });

    await expectBack(journey, operator);
    const calls = (await host.text('/data/drain-calls'))?.trim().split('\n') ?? [];
    // By the agent that was killed, and by its successor.
    expect(calls.filter((word) => word !== 'list')).toEqual(['drain', 'drain', 'undrain']);
  });

  test('is emptied by the control plane, and may carry VMs again when it is back', async () => {
    const secret = 'control-plane-secret-of-more-than-32-bytes';
    const token = 'control-plane-token-of-more-than-32-bytes';
    const reach = { url: '', ca: '' };
    const plane = await startControlPlane({
      secret,
      hosts: ['qhci-01', 'elsewhere'].map((name) => ({ name, room: 10 })),
      report: async (progress) => {
        const [url, body] = [`${reach.url}${MAINTENANCE_ROUTES.drainProgress.path}`, JSON.stringify(progress)];
        const headers = ['-H', 'content-type: application/json', '-H', `authorization: Bearer ${token}`];
        await curl('--cacert', reach.ca, ...headers, '-d', body, url);
      },
    });
    for (const vm of ['vm-1', 'vm-2']) await plane.run('qhci-01', vm);
    const { journey, host, fleet, operator } = await memberOf(imageOf, {
      CONTROL_PLANE_URL: plane.url,
      CONTROL_PLANE_SECRET: secret,
      CONTROL_PLANE_TOKEN: token,
    });
    Object.assign(reach, { url: fleet.url, ca: join(journey.folder, 'ca.pem') });
    await writeFile(reach.ca, site.cert);
    expect((await host.update('plan')).output).toMatch(/vm-1 +-> elsewhere/);
    await expectApplied(journey);
    await host.untilDown('it waits for its turn');
    expect([plane.on('qhci-01'), plane.on('elsewhere')]).toEqual([[], ['vm-1', 'vm-2']]);
    expect(plane.isCordoned('qhci-01')).toBe(true);
    await expectBack(journey, operator);
    await until('it may carry VMs again', async () => !plane.isCordoned('qhci-01'));
  });
});
