import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { hostFolder, qxUpdate, startAgent } from '../support/agent.ts';
import { authority, type Certificate } from '../support/certificates.ts';
import { temporaryFolder } from '../support/temp.ts';
import { startServer } from '../support/update-server.ts';

/** What programs that serve do with signals, and with files that are exchanged while they run. */

const ours = await authority('ours');
const [first, second] = [await ours.issue('127.0.0.1'), await ours.issue('127.0.0.1', 7)];

interface Serving {
  readonly port: number;
  output(): string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<{ readonly exitCode: number | undefined }>;
}

interface Program extends Serving {
  /** Puts these files in the place of those that it started with. */
  exchange(files: Certificate): Promise<void>;
}

async function agent(): Promise<Program & { readonly root: string }> {
  const host = await hostFolder(['tls_cert: /etc/tls.crt', 'tls_key: /etc/tls.key']);
  const exchange = async ({ cert, key }: Certificate) => {
    await host.write('etc/tls.key', key);
    await host.write('etc/tls.crt', cert);
  };
  await exchange(first);
  return { ...(await startAgent(host.path)), exchange, root: host.path };
}

async function server(): Promise<Program> {
  const folder = await temporaryFolder();
  const [TLS_CERT, TLS_KEY] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  const exchange = async ({ cert, key }: Certificate) => {
    await writeFile(TLS_KEY, key);
    await writeFile(TLS_CERT, cert);
  };
  await exchange(first);
  const started = await startServer({ RELEASE_DIR: join(folder, 'releases'), TLS_CERT, TLS_KEY });
  return { ...started, exchange, port: Number(new URL(started.url).port) };
}

async function shown(port: number): Promise<string> {
  const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const fingerprint = socket.getPeerX509Certificate()?.fingerprint256 ?? '';
  socket.destroy();
  return fingerprint;
}

const endOf = ({ cert }: Certificate): string => new X509Certificate(cert).validToDate.toISOString();
const fingerprintOf = ({ cert }: Certificate): string => new X509Certificate(cert).fingerprint256;
const says = ({ output }: Serving, event: string, times = 1) =>
  expect.poll(() => output().split(`"msg":"${event}"`).length - 1, { timeout: 20_000 }).toBe(times);

describe.each([
  ['the agent', agent],
  ['the update server', server],
])('%s', (_name, start) => {
  test('ends when it is told to, whoever is connected and says nothing', async () => {
    const running = await start();
    const stranger = connect({ host: '127.0.0.1', port: running.port });
    stranger.on('error', () => undefined);
    onTestFinished(() => void stranger.destroy());
    await once(stranger, 'connect');
    stranger.write(Buffer.from([0x16, 0x03, 0x01]));
    // It has taken the stranger's connection once it has answered on a later one.
    await shown(running.port);
    const gone = new Promise((resolve) => stranger.resume().once('close', resolve));
    running.kill('SIGTERM');
    expect(await running.ended).toEqual({ exitCode: 0 });
    await gone;
    expect(running.output()).not.toContain('stop_cut');
  });

  test('takes renewed files at SIGHUP, and goes on with the old ones where it cannot', async () => {
    const running = await start();
    await running.exchange({ ...second, key: first.key });
    running.kill('SIGHUP');
    await says(running, 'certificate_not_taken');
    expect(await shown(running.port)).toBe(fingerprintOf(first));
    await running.exchange(second);
    running.kill('SIGHUP');
    await says(running, 'certificate_renewed');
    expect(await shown(running.port)).toBe(fingerprintOf(second));
    // It is good for a week.
    await says(running, 'certificate_expires');
  });

  test('outlives the signals that have nothing to say to it', async () => {
    const running = await start();
    for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGPIPE'] as const) running.kill(signal);
    await says(running, 'signal_ignored', 2);
    expect(await shown(running.port)).toBe(fingerprintOf(first));
    expect(running.output()).not.toContain('Debugger');
  });
});

test('the status of a host says when its certificate expires, and why another is not taken', async () => {
  const running = await agent();
  const status = async () => JSON.parse((await qxUpdate(running.root, 'status', '--json')).stdout);
  expect((await status()).certificate).toBeUndefined();
  await running.exchange({ ...second, key: first.key });
  running.kill('SIGHUP');
  await says(running, 'certificate_not_taken');
  expect((await status()).certificate).toMatchObject({ problem: expect.stringContaining('tls_cert') });
  expect((await qxUpdate(running.root, 'status')).stdout).toMatch(/^Certificate +the new one is not taken: /m);
  await running.exchange(second);
  running.kill('SIGHUP');
  await says(running, 'certificate_renewed');
  expect((await qxUpdate(running.root, 'status')).stdout).toMatch(
    new RegExp(`^Certificate +of the network interface, expires ${endOf(second)}$`, 'm'),
  );
});
