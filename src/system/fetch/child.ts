import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { asQxError, type Code } from '../../errors.ts';
import type { HttpResponse } from '../../ports.ts';
import { collectEarly } from '../engine.ts';
import { undiciHttp } from '../http.ts';
import { CONTROL_FD, FORMAT, HEADER_NAME, HEADER_VALUE, MAX_HEADERS, type Order, printable } from './protocol.ts';
import { dropRights } from './rights.ts';
import type { Saying } from './sayings.ts';

/** The process that fetches: one order, then it is gone. Everything that a server sends is read here first. */
export async function fetchForAgent(): Promise<number> {
  dropRights();
  collectEarly();
  // Whoever ordered is gone, or has heard enough.
  for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(1));
  const order = await readOrder();
  say({ say: 'ready' });
  const http = undiciHttp(order.options);
  try {
    const { url, request } = order;
    const { body } = request;
    const response = await (body === undefined ? http.get(url, request) : http.post(url, { ...request, body }));
    say({ say: 'head', status: response.status, headers: plainHeaders(response.headers) });
    say({ say: 'end', bytes: await handOn(response.body) });
  } catch (error) {
    const { code, message } = asQxError(error);
    say({ say: 'error', code, detail: printable(message) });
  }
  await http.close();
  // No exit: the last bytes may still be on their way.
  process.stdin.removeAllListeners().destroy();
  return 0;
}

async function readOrder(): Promise<Order> {
  const text = await new Promise<string>((resolve) => {
    const held: string[] = [];
    process.stdin.setEncoding('utf8').on('data', (piece: string) => {
      held.push(piece);
      if (piece.endsWith('\n')) resolve(held.join(''));
    });
  });
  const order: Order = JSON.parse(text);
  if (order.format !== FORMAT) throw new Error(`an order of format ${order.format}, this is ${FORMAT}`);
  return order;
}

type Told = Exclude<Saying, { say: 'error' }> | { readonly say: 'error'; readonly code: Code; readonly detail: string };

const say = (saying: Told): void => {
  writeSync(CONTROL_FD, `${JSON.stringify(saying)}\n`);
};

function plainHeaders(headers: HttpResponse['headers']): Record<string, string> {
  const [name, value] = [new RegExp(HEADER_NAME), new RegExp(HEADER_VALUE)];
  const plain = Object.entries(headers).filter(([n, v]) => name.test(n) && value.test(v));
  return Object.fromEntries(plain.slice(0, MAX_HEADERS));
}

/** No further than the agent reads: what it does not take is left to the server to keep. */
async function handOn(body: HttpResponse['body']): Promise<number> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (!process.stdout.write(chunk)) await once(process.stdout, 'drain');
  }
  return bytes;
}
