import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { hostFolder, qxUpdate, startAgent } from '../support/agent.ts';
import { authority } from '../support/certificates.ts';

/** An update server of the operator's own authority; the environment of the agent has no say in it. */
test('a server of a private authority is believed with updates.server_ca, and not without', async () => {
  const ours = await authority('ours');
  const server = createServer(await ours.issue('127.0.0.1'), (_request, response) => response.writeHead(404).end());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const host = await hostFolder([
    `server_url: https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    'server_ca: /etc/limiquantix/server-ca.pem',
  ]);
  await host.write('etc/limiquantix/server-ca.pem', ours.cert);
  const agent = await startAgent(host.path);
  expect(await qxUpdate(host.path, 'check')).toMatchObject({ exitCode: 3 });

  agent.kill('SIGTERM');
  await agent.ended;
  await host.write('etc/limiquantix/server-ca.pem', (await authority('theirs')).cert);
  await startAgent(host.path);
  const { exitCode, stderr } = await qxUpdate(host.path, 'check');
  expect(stderr).toContain('[SERVER_UNREACHABLE]');
  expect(exitCode).toBe(9);
});
