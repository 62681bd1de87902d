import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { slowLine } from './slow-line.ts';

test('a host that reads slowly gets all that a server sent before it hung up', async () => {
  const sent = Buffer.alloc(8 << 20, 'x');
  const far = createServer((socket) => void socket.end(sent));
  far.listen(0, '127.0.0.1');
  onTestFinished(() => void far.close());
  await once(far, 'listening');
  const line = await slowLine(`http://127.0.0.1:${(far.address() as AddressInfo).port}`);
  const accepted = once(far, 'connection');
  const host = connect(Number(new URL(line.url).port), '127.0.0.1');
  const [server] = (await accepted) as [Socket];
  await once(server, 'close');
  expect((await buffer(host)).length).toBe(sent.length);
});
