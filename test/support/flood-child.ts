import { connect, type Socket } from 'node:net';

/**
 * A process of its own that opens connections as fast as it can and keeps them: some say nothing, some half a TLS hello, some
 * a byte a second. `node flood-child.ts PORT CONNECTIONS`; prints how it went and ends on SIGTERM.
 */

const [port, count] = process.argv.slice(2).map(Number) as [number, number];
const ADDRESSES = 20;
const AT_ONCE = 1000;
const HALF_HELLO = Buffer.from('16030100c8010000c40303', 'hex');
const OPEN_FOR_MS = 1500;

const counts = { opened: 0, refused: 0, failed: 0 };

function send(socket: Socket, i: number): void {
  if (i % 4 === 1) socket.write(HALF_HELLO);
  if (i % 4 === 2) socket.write('GET /health HTTP/1.1\r\nHost: loc');
  if (i % 4 !== 3) return;
  const drip = setInterval(() => void socket.write(Buffer.from([0x16])), 1000);
  socket.on('close', () => clearInterval(drip));
}

const one = (i: number): Promise<void> =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: `127.0.1.${1 + (i % ADDRESSES)}` });
    const timer = setTimeout(resolve, OPEN_FOR_MS);
    socket.on('connect', () => {
      counts.opened++;
      send(socket, i);
    });
    socket.on('error', () => counts.failed++);
    socket.on('close', () => {
      counts.refused++;
      clearTimeout(timer);
      resolve();
    });
  });

for (let i = 0; i < count; i += AT_ONCE) {
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - i) }, (_, k) => one(i + k)));
}
process.stdout.write(`${JSON.stringify(counts)}\n`);
setInterval(() => undefined, 1000);
