import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type AtEnd, atTestEnd } from './at-end.ts';

/** The line between a host and its server: it can stop in the middle of an answer, be cut, and knows what was asked for. */
export interface SlowLine {
  readonly url: string;
  /** Request lines with the Range that came with them: `/path bytes=5-`. */
  readonly asked: readonly string[];
  /** From now on each connection brings so many bytes and then nothing more. */
  stopAfter(bytes: number): void;
  /** What waits goes on, and nothing stops any more. */
  flow(): void;
  /** Ends every connection that is open. */
  cut(): void;
}

export async function slowLine(to: string, atEnd: AtEnd = atTestEnd): Promise<SlowLine> {
  const { port: target } = new URL(to);
  const asked: string[] = [];
  const open = new Set<Socket>();
  const state = { limitBytes: Number.POSITIVE_INFINITY };
  const waiting = new Set<Socket>();
  const hold = (upstream: Socket): void => {
    upstream.pause();
    waiting.add(upstream);
  };
  const server = createServer((host) => {
    const upstream = connect(Number(target), '127.0.0.1');
    for (const socket of [host, upstream]) {
      open.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        open.delete(socket);
        waiting.delete(socket);
      });
    }
    host.on('close', () => upstream.destroy());
    // A host that reads slowly still gets what is on its way.
    upstream.on('close', () => host.end());
    host.on('data', (data) => {
      asked.push(...requestsIn(data.toString('latin1')));
      upstream.write(data);
    });
    const seen = { bytes: 0 };
    upstream.on('data', (data) => {
      seen.bytes += data.length;
      host.write(data);
      if (seen.bytes >= state.limitBytes) hold(upstream);
    });
    if (state.limitBytes === 0) hold(upstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  atEnd(() => {
    cut();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    stopAfter: (bytes) => void Object.assign(state, { limitBytes: bytes }),
    flow: () => {
      state.limitBytes = Number.POSITIVE_INFINITY;
      for (const socket of waiting) socket.resume();
    },
    cut,
  };
}

const requestsIn = (text: string): string[] =>
  [...text.matchAll(/^GET (\S+) HTTP[\s\S]*?\r\n\r\n/gm)].map(([head, path]) => {
    const range = /^range: (.*)\r$/im.exec(head)?.[1];
    return range === undefined ? `${path}` : `${path} ${range}`;
  });
