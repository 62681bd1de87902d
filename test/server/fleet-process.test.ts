import { readFile, stat, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { authority } from '../support/certificates.ts';
import { fleetTool } from '../support/fleet-tools.ts';
import { type HostKey, hostKey } from '../support/node-keys.ts';
import { document } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';
import { runServer, startServer, TOKEN } from '../support/update-server.ts';

/** The real server as a process, with TLS, its socket, and a host that has nothing but Node. */

async function site() {
  const folder = await temporaryFolder();
  const ca = await authority('site');
  const { cert, key } = await ca.issue('127.0.0.1');
  const [TLS_CERT, TLS_KEY] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  await writeFile(TLS_CERT, cert);
  await writeFile(TLS_KEY, key);
  const socket = join(folder, 'run/server.sock');
  const environment = { RELEASE_DIR: join(folder, 'releases'), SERVER_SOCKET: socket, TLS_CERT, TLS_KEY };
  const fleet = async (...args: readonly string[]) =>
    document(await fleetTool([...args, '--socket', socket, '--json']));
  return { folder, ca: ca.cert, environment, socket, fleet };
}

interface Host {
  post(path: string, body: object): Promise<{ status: number; json: Record<string, string> }>;
  readonly agent: Agent;
}

/** Keeps one connection. */
function host(url: string, ca: string, certificate: { cert?: string; key?: string } = {}): Host {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca, ...certificate });
  onTestFinished(() => agent.destroy());
  const post: Host['post'] = (path, body) =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' };
      const asked = request(`${url}/api/v1/nodes/${path}`, { method: 'POST', agent, headers }, (response) => {
        const chunks: Buffer[] = [];
        response
          .on('data', (chunk: Buffer) => chunks.push(chunk))
          .on('end', () => {
            resolve({ status: response.statusCode ?? 0, json: JSON.parse(Buffer.concat(chunks).toString()) });
          });
      });
      asked.on('error', reject);
      asked.end(JSON.stringify(body));
    });
  return { post, agent };
}

const openSockets = ({ agent }: Host) => Object.values(agent.freeSockets).flat();

test('a host enrols, calls on one connection, and is out there too once it is revoked; after a restart as well', async () => {
  const { folder, ca, environment, socket, fleet } = await site();
  const server = await startServer(environment);
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
  expect((await stat(join(folder, 'keys/node-ca.key'))).mode & 0o777).toBe(0o600);
  const { join: line } = await fleet('node', 'invite', 'qhci-01', '--host', '127.0.0.1:9000');

  const key: HostKey = hostKey();
  const { status, json } = await host(server.url, ca).post('enroll', key.enrolBy(String(line)));
  expect([status, json.state]).toEqual([200, 'enrolled']);
  const { id = '', certificate = '' } = json;
  const enrolled = host(server.url, ca, { cert: certificate, key: key.key });
  const renew = () => enrolled.post('renew', hostKey().renewAs(id));
  expect((await renew()).status).toBe(200);
  const connection = openSockets(enrolled);
  expect(connection).toHaveLength(1);

  await fleet('node', 'revoke', 'qhci-01', '--reason', 'test');
  const refused = await renew();
  expect([refused.status, refused.json.code]).toEqual([403, 'NODE_REVOKED']);
  expect(openSockets(enrolled)).toEqual(connection);

  server.kill('SIGTERM');
  expect((await server.ended).exitCode).toBe(0);
  await expect(stat(socket)).rejects.toThrow('ENOENT');
  const authorityBefore = await readFile(join(folder, 'keys/node-ca.crt'), 'utf8');
  const again = await startServer(environment);
  expect(await readFile(join(folder, 'keys/node-ca.crt'), 'utf8')).toBe(authorityBefore);
  const returned = host(again.url, ca, { cert: certificate, key: key.key });
  expect((await returned.post('renew', hostKey().renewAs(id))).json.code).toBe('NODE_REVOKED');
  for (const said of [server.output(), again.output()]) expect(said).not.toContain(String(line).split('.')[2]);
});

describe('the server does not start', () => {
  const start = (environment: Readonly<Record<string, string>>) =>
    runServer({ LISTEN_ADDR: '127.0.0.1:0', PUBLISH_TOKEN: TOKEN, ...environment });

  test.each<[string, Readonly<Record<string, string>>, string]>([
    ['PostgreSQL does not answer', { STATE_DATABASE_URL: 'postgres://quantix@127.0.0.1:9/state' }, 'STATE_UNREACHABLE'],
    ['its state is no database', { STATE_DATABASE_URL: 'sqlite:/proc/version' }, 'STATE_UNREACHABLE'],
    ['its state can be nowhere', { STATE_DATABASE_URL: 'sqlite:/proc/state/fleet.db' }, 'STATE_UNREACHABLE'],
    ['its state is of no known kind', { STATE_DATABASE_URL: 'mysql://state' }, 'CONFIG_INVALID'],
    ['its socket can be nowhere', { SERVER_SOCKET: '/proc/server.sock' }, ''],
  ])('when %s, and says what to do', async (_why, environment, code) => {
    const { environment: usual } = await site();
    const ended = await start({ ...usual, ...environment });
    expect(ended.exitCode).toBeGreaterThan(0);
    expect(ended.stderr).toContain(code === '' ? 'SERVER_SOCKET' : `[${code}]`);
    expect(ended.stderr).not.toMatch(/\bat [\w.]+ \(/);
    expect(ended.all).not.toContain('"msg":"listening"');
  });

  test('when half of the authority of the nodes is missing', async () => {
    const { folder, environment } = await site();
    const NODE_CA_CERT = join(folder, 'ca.crt');
    await writeFile(NODE_CA_CERT, 'left over');
    const ended = await start({ ...environment, NODE_CA_CERT });
    expect([ended.exitCode, ended.stderr]).toEqual([2, expect.stringContaining('backup')]);
    expect(await readFile(NODE_CA_CERT, 'utf8')).toBe('left over');
  });

  test('when another one has the socket, which keeps it', async () => {
    const { folder, environment, fleet } = await site();
    await startServer(environment);
    const ended = await start({ ...environment, RELEASE_DIR: join(folder, 'others') });
    expect([ended.exitCode, ended.stderr]).toEqual([6, expect.stringContaining('SERVER_SOCKET')]);
    expect(await fleet('node', 'list')).toMatchObject({ nodes: [] });
  });

  test('when another one keeps its state in the same file', async () => {
    const { folder, environment: usual } = await site();
    const environment = { ...usual, STATE_DATABASE_URL: `sqlite:${folder}/state/fleet.db` };
    const first = await startServer(environment);
    const other = { RELEASE_DIR: join(folder, 'others'), SERVER_SOCKET: join(folder, 'other.sock') };
    const ended = await start({ ...environment, ...other });
    expect([ended.exitCode, ended.stderr]).toEqual([6, expect.stringContaining('keeps its state in')]);
    first.kill('SIGKILL');
    await first.ended;
    await startServer({ ...environment, ...other });
  });
});
