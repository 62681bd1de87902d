import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect } from 'node:tls';
import { execa } from 'execa';
import { expect, onTestFinished, test, vi } from 'vitest';
import { hostFolder, type RunningAgent, startAgent } from '../support/agent.ts';
import { curl } from '../support/update-server.ts';

/** Strangers in numbers, against a real agent: 10 000 connections, 10 000 wrong tokens. */

vi.setConfig({ testTimeout: 120_000 });

const FLOOD = join(import.meta.dirname, '../support/flood-child.ts');
const MEBIBYTE = 1 << 20;

const rssOf = async ({ pid }: RunningAgent): Promise<number> =>
  Number(/VmRSS:\s+([0-9]+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
const descriptorsOf = ({ pid }: RunningAgent): number => readdirSync(`/proc/${pid}/fd`).length;

async function open() {
  const host = await hostFolder();
  const agent = await startAgent(host.path);
  const token = (await readFile(join(host.path, 'quantix/limiquantix/api-token'), 'utf8')).trim();
  const socket = join(host.path, 'run/quantix/node.sock');
  const locally = async () =>
    (await curl('--unix-socket', socket, '--max-time', '10', 'http://localhost/api/v1/updates/progress')).status;
  return { agent, token, locally };
}

test('10 000 connections: the Unix socket goes on answering, memory and files stay bounded, and then all is as before', async () => {
  const { agent, token, locally } = await open();
  const before = { rss: await rssOf(agent), files: descriptorsOf(agent) };
  const flood = execa(process.execPath, [FLOOD, String(agent.port), '10000'], { reject: false, extendEnv: false });
  onTestFinished(() => void flood.kill('SIGKILL'));
  const result = new Promise<string>((resolve) =>
    flood.stdout.once('data', (data: Buffer) => resolve(data.toString())),
  );
  const peak = { rss: 0, files: 0, answers: 0 };
  const isOver = { yes: false };
  void result.then(() => Object.assign(isOver, { yes: true }));
  while (!isOver.yes) {
    expect(await locally()).toBe(200);
    peak.answers++;
    peak.rss = Math.max(peak.rss, await rssOf(agent));
    peak.files = Math.max(peak.files, descriptorsOf(agent));
  }
  const counts = JSON.parse(await result);
  expect(counts.opened).toBe(10_000);
  expect(counts.refused).toBeGreaterThan(9000);
  expect(peak.answers).toBeGreaterThan(3);
  expect(peak.files - before.files).toBeLessThanOrEqual(512 + 8);
  expect(peak.rss - before.rss).toBeLessThan(128 * MEBIBYTE);
  // What is still open is given up within the time for a handshake; whoever comes from another address then is served.
  const mine = ['-k', '--interface', '127.0.0.9', '--max-time', '5', '-H', `Authorization: Bearer ${token}`];
  const ask = () => curl(...mine, `https://127.0.0.1:${agent.port}/api/v1/updates/progress`).then((a) => a.status);
  await expect.poll(() => ask().catch(() => 0), { timeout: 20_000, interval: 500 }).toBe(200);
  expect(agent.output()).not.toMatch(/EMFILE|request_failed/);
});

/** The status of an order with this token from this address. */
function order(port: number, localAddress: string, token: string): Promise<{ status: number; retryAfter?: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({
      host: '127.0.0.1',
      port,
      localAddress,
      method: 'GET',
      path: '/api/v1/updates/progress',
      rejectUnauthorized: false,
      agent: false,
      headers: { host: 'localhost', authorization: `Bearer ${token}` },
    });
    asked.on('error', reject).on('response', (response) => {
      const retryAfter = response.headers['retry-after'];
      response.resume().on('end', () => {
        resolve({ status: response.statusCode ?? 0, ...(retryAfter === undefined ? {} : { retryAfter }) });
      });
    });
    asked.end();
  });
}

/** Sends many orders with wrong tokens over one connection, a few at a time, and counts the answers by status. */
function guess(port: number, localAddress: string, count: number): Promise<Map<number, number>> {
  return new Promise((resolve, reject) => {
    const statuses = new Map<number, number>();
    const progress = { sent: 0, answered: 0, rest: '' };
    const options = { host: '127.0.0.1', port, localAddress, rejectUnauthorized: false };
    const socket = connect(options as ConnectionOptions, () => more());
    const more = (): void => {
      const batch = Math.min(GUESSES_AT_ONCE, count - progress.sent);
      const head = (i: number) => `GET ${PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong-${i}\r\n\r\n`;
      socket.write(Array.from({ length: batch }, (_, i) => head(progress.sent + i)).join(''));
      progress.sent += batch;
    };
    socket.on('error', reject).on('data', (data: Buffer) => {
      const lines = (progress.rest + data.toString()).split('\r\n');
      progress.rest = lines.pop() ?? '';
      for (const line of lines) {
        const status = Number(/HTTP\/1\.1 ([0-9]{3}) /.exec(line)?.[1] ?? 0);
        if (status === 0) continue;
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        progress.answered++;
      }
      if (progress.answered === count) {
        socket.destroy();
        resolve(statuses);
      } else if (progress.answered === progress.sent) more();
    });
  });
}

const PATH = '/api/v1/updates/progress';
const GUESSES_AT_ONCE = 8;

test('T37 10 000 wrong tokens from twenty addresses: 401, then 429 with Retry-After, and the owner of the token is let in', async () => {
  const { agent, token, locally } = await open();
  const before = await rssOf(agent);
  const guessers = Array.from({ length: 20 }, (_, i) => guess(agent.port, `127.0.2.${i + 1}`, 500));
  // Two others at the same time: the owner, and root on the host.
  expect(await order(agent.port, '127.0.3.1', token)).toEqual({ status: 200 });
  expect(await locally()).toBe(200);
  const all = await Promise.all(guessers);
  const count = (status: number) => all.reduce((sum, one) => sum + (one.get(status) ?? 0), 0);
  expect(count(401) + count(429)).toBe(10_000);
  // Six of each address, the sixth earning the wait; once a hundred a minute were wrong, one of each.
  expect(count(401)).toBeGreaterThanOrEqual(20);
  expect(count(401)).toBeLessThanOrEqual(20 * 6 + 20 * 4);
  // Behind the address of a guesser there may be the owner as well.
  expect(await order(agent.port, '127.0.2.1', token)).toEqual({ status: 200 });
  const waits = await order(agent.port, '127.0.2.1', 'wrong');
  expect([waits.status, Number(waits.retryAfter)]).toEqual([429, expect.any(Number)]);
  expect(Number(waits.retryAfter)).toBeGreaterThan(0);
  expect(await order(agent.port, '127.0.3.1', token)).toEqual({ status: 200 });
  expect(await order(agent.port, '127.0.3.2', token)).toEqual({ status: 200 });
  expect(await order(agent.port, '127.0.3.3', 'wrong')).toMatchObject({ status: 401 });
  expect(await locally()).toBe(200);
  expect((await rssOf(agent)) - before).toBeLessThan(96 * MEBIBYTE);
});

/** Asks for the largest file there is as often as the agent lets it, and never reads an answer. */
function deaf(port: number, localAddress: string): Promise<Socket> {
  return new Promise((resolve) => {
    const options = { host: '127.0.0.1', port, localAddress, rejectUnauthorized: false };
    const socket = connect(options as ConnectionOptions, () => {
      socket.pause();
      resolve(socket);
      askOn();
    });
    const ask = 'GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(ASKED_AT_ONCE);
    const askOn = (): void => {
      if (!socket.destroyed && socket.write(ask)) setTimeout(askOn, 5);
    };
    socket.on('drain', askOn).on('error', () => undefined);
    // An agent that is too busy for the handshake hangs up: one reader less, which is its right.
    socket.on('close', () => resolve(socket));
  });
}

const ASKED_AT_ONCE = 16;

test('readers that never read: memory stays bounded, and everybody else is served', async () => {
  const { agent, token, locally } = await open();
  const before = await rssOf(agent);
  const addresses = Array.from({ length: 256 }, (_, i) => `127.0.4.${(i % 4) + 1}`);
  const sockets = await Promise.all(addresses.map((address) => deaf(agent.port, address)));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  const peak = { rss: 0 };
  // Each goes on until the agent hangs up, once too many answers wait for it.
  while (sockets.some(({ closed }) => !closed)) {
    expect(await locally()).toBe(200);
    expect(await order(agent.port, '127.0.3.1', token)).toEqual({ status: 200 });
    peak.rss = Math.max(peak.rss, await rssOf(agent));
  }
  expect((peak.rss - before) / MEBIBYTE).toBeLessThan(96);
  const asked = sockets.filter(({ bytesWritten }) => bytesWritten > 0);
  expect(asked.length).toBeGreaterThan(sockets.length / 2);
});
