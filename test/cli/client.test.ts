import { rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { agentClient } from '../../src/cli/client.ts';
import { AGENT_ROUTES } from '../../src/format/agent-routes.ts';
import { temporaryFolder } from '../support/temp.ts';

/** The pid in `supervisor`, and an agent that listens after a while. */
async function startingAgent(pid: number) {
  const folder = await temporaryFolder();
  const [socket, supervisor] = [join(folder, 'node.sock'), join(folder, 'node.pid')];
  await writeFile(supervisor, `${pid}\n`);
  const server = createServer((_, response) => response.end('{"status":"idle"}'));
  onTestFinished(() => closed(server));
  const start = () => new Promise<void>((resolve) => server.listen(socket, resolve));
  const waits = { count: 0 };
  const onWait = (): void => {
    waits.count += 1;
  };
  return { supervisor, start, waits, client: agentClient(socket, { supervisor, onWait }) };
}

const closed = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));

/** No process of this machine has it. */
const NOBODY = 2 ** 22 + 1;

test('an agent that its supervisor is starting is waited for, and that is said once', async () => {
  const { client, start, waits } = await startingAgent(process.pid);
  const answer = client.call(AGENT_ROUTES.status);
  await sleep(300);
  await start();
  expect(await answer).toEqual({ status: 'idle' });
  expect(await client.call(AGENT_ROUTES.status)).toEqual({ status: 'idle' });
  expect(waits.count).toBe(1);
});

test('no longer once the supervisor is gone, or whoever asked has gone', async () => {
  const { client, supervisor } = await startingAgent(process.pid);
  const leaving = new AbortController();
  const left = client.call(AGENT_ROUTES.status, { signal: leaving.signal }).catch((error: Error) => error.name);
  await sleep(100);
  leaving.abort();
  expect(await left).toBe('AbortError');
  const answer = client.call(AGENT_ROUTES.status);
  answer.catch(() => undefined);
  await sleep(100);
  await rm(supervisor);
  await expect(answer).rejects.toMatchObject({ code: 'AGENT_DOWN' });
});

test('where nobody starts it, that is said at once', async () => {
  const { client, waits } = await startingAgent(NOBODY);
  await expect(client.call(AGENT_ROUTES.status)).rejects.toMatchObject({ code: 'AGENT_DOWN' });
  expect(waits.count).toBe(0);
});
