import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { authority } from '../support/certificates.ts';
import { JOURNEY, JOURNEY_TIMEOUT_MS, journeyImages, setOut } from '../support/journey.ts';
import { bothMayBoot, publishBoth } from '../support/journey-good.ts';
import { until } from '../support/journey-host.ts';
import { fleetServer } from '../support/journey-server.ts';
import { requires } from '../support/requires.ts';

/** From a join string to a host that was emptied, rebooted inside its grant and is back, with what `npm run build` made. */

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

  test('enrols, is emptied before it reboots, and tells how it went, though agent and server are killed on the way', {
    timeout: 2 * JOURNEY_TIMEOUT_MS,
  }, async () => {
    const journey = await setOut({ first: await imageOf('1.0.0') });
    const { folder, host, server, desk } = journey;
    const { image } = await imageOf('1.1.0');
    await publishBoth(journey, '1.1.0', image);
    // From here on another one has its releases, and nobody but a member may read them.
    await server.kill();
    const socket = join(folder, 'server.sock');
    const [TLS_CERT, TLS_KEY] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
    const { cert, key } = await (await authority('site')).issue('127.0.0.1');
    await writeFile(TLS_CERT, cert);
    await writeFile(TLS_KEY, key);
    const fleet = await fleetServer(folder, {
      TLS_CERT,
      TLS_KEY,
      SERVER_SOCKET: socket,
      STATE_DATABASE_URL: `sqlite:${join(folder, 'fleet.db')}`,
      NODE_CA_CERT: join(folder, 'node-ca.crt'),
      NODE_CA_KEY: join(folder, 'node-ca.key'),
      KEYRING: desk.keyring,
      READ_NEEDS_CERTIFICATE: 'true',
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
    await host.run(
      'sh',
      '-c',
      `mkdir -p /quantix/limiquantix/drain.d /data/vms
cat >/quantix/limiquantix/drain.d/vms <<'PROGRAM'
${DRAIN_PROGRAM}
PROGRAM
chmod 755 /quantix/limiquantix/drain.d/vms`,
    );
    for (const vm of ['vm-1', 'vm-2']) {
      await host.run('sh', '-c', `sleep 1000 >/dev/null 2>&1 & echo $! >/data/vms/${vm}`);
    }
    const planned = await host.update('plan');
    expect(planned.output).toMatch(/drain\.d empty this host\n {2}vm-1\n {2}vm-2/);
    const applied = await host.update('apply', '--reboot');
    expect(applied, applied.output).toMatchObject({ exitCode: 4 });
    await until('the status says what it waits for', async () => {
      const { waitsFor = '' } = await host.ask('status');
      return String(waitsFor).includes('VMs');
    });
    // Neither of them remembers anything but what is on its disk.
    await fleet.dieAndComeBack();
    await host.run('kill', '-9', (await host.pidOf('quantix-node')).trim());
    await host.untilDown('it waits for its turn');
    expect(await operator('maintenance', 'show', 'qhci-01')).toMatchObject({
      state: 'rebooting',
      holds_place: true,
      total_vms: 2,
      migrated_vms: 2,
      target_version: '1.1.0',
    });

    await host.boot();
    await until(
      'the fleet knows that it is back',
      async () => {
        const { state } = await operator('maintenance', 'show', 'qhci-01');
        return state === 'completed';
      },
      120_000,
    );
    expect(await host.environment()).toMatchObject(bothMayBoot('B', 'A'));
    expect(
      (await host.text('/data/drain-calls'))
        ?.trim()
        .split('\n')
        .filter((word) => word !== 'list'),
      // By the agent that was killed, and by its successor.
    ).toEqual(['drain', 'drain', 'undrain']);
    expect(await operator('maintenance', 'list')).toMatchObject({ count: 0 });
  });
});
