import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { readInvitation } from '../../src/format/invitation.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { enrolled, type FleetBench, fleetBench, operatorToken, SITE } from '../support/fleet.ts';
import { fleetTool } from '../support/fleet-tools.ts';
import { hostKey } from '../support/node-keys.ts';
import { document } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

let fleet: FleetBench;
beforeEach(async () => {
  fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
});

const onSocket = (...args: readonly string[]) => fleetTool([...args, '--socket', fleet.socket]);

describe('as root, over the socket of the server', () => {
  test('a host is invited, enrols, is listed, approved and put out', async () => {
    const words = ['--group', 'edge', '--label', 'rack=r1', '--label', 'zone=a', '--no-vms', '--approve'];
    const host = ['--host', 'updates.example.org'];
    const invited = await onSocket('node', 'invite', 'qhci-01', ...words, '--ttl', '1d', ...host);
    expect(invited).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('qx-fleet node approve qhci-01') });
    expect(readInvitation(invited.stdout.trim())).toMatchObject({ host: 'updates.example.org' });

    const body = hostKey().enrolBy(invited.stdout.trim());
    const { json } = await fleet.call({}, NODE_ROUTES.enroll, { body });
    const fingerprint = String(json.key_fingerprint);
    const listed = await onSocket('node', 'list');
    expect(listed.stdout).toMatch(/^NAME +STATE +GROUP +LABELS +VMS +CERTIFIED UNTIL +KEY\n/);
    expect(listed.stdout).toMatch(new RegExp(`qhci-01 +pending +edge +rack=r1,zone=a +no +- +${fingerprint}\n`));
    const wrong = await onSocket('node', 'approve', 'qhci-01', '--fingerprint', '0'.repeat(64));
    expect([wrong.exitCode, wrong.stderr]).toEqual([5, expect.stringContaining('[KEY_MISMATCH]')]);
    const colons = fingerprint.toUpperCase().replace(/(..)(?=.)/g, '$1:');
    expect((await onSocket('node', 'approve', 'qhci-01', '--fingerprint', colons)).stdout).toBe(
      'qhci-01 is enrolled\n',
    );
    const revoked = await onSocket('node', 'revoke', 'qhci-01', '--reason', 'disk stolen', '--json');
    expect(document(revoked)).toMatchObject({ schema: 'qx-fleet.node/1', node_id: 'qhci-01', state: 'revoked' });
    const entry = await fleet.store.db
      .selectFrom('audit')
      .select('entry')
      .where('event', '=', 'node_revoked')
      .execute();
    expect(entry[0]?.entry).toContain('disk stolen');
  });

  test('two machines that speak as one host are listed with their boots, until somebody has decided', async () => {
    const host = await enrolled(fleet, 'qhci-01');
    const ask = (boot: string) =>
      fleet.call(
        { certificate: host.certificate, headers: { 'x-qx-boot': boot.repeat(32) } },
        MAINTENANCE_ROUTES.maintenanceStatus,
        {
          params: { nodeId: 'qhci-01' },
        },
      );
    for (const boot of ['a', 'b']) expect((await ask(boot)).status).toBe(200);
    expect(await ask('a')).toMatchObject({ status: 409, json: { code: 'IDENTITY_SHARED' } });
    const { stdout } = await onSocket('node', 'list');
    expect(stdout).toMatch(/qhci-01 +enrolled, shared/);
    expect(stdout).toMatch(
      /Two machines speak as qhci-01, since .*\n +a{32} +since .*\n +b{32} +since .*\n +next: .*node resolve qhci-01/,
    );
    expect((await onSocket('maintenance', 'show', 'qhci-01')).stdout).toMatch(/^conflict +two machines speak as/m);
    expect((await onSocket('node', 'resolve', 'qhci-01')).exitCode).toBe(2);
    expect((await onSocket('node', 'resolve', 'qhci-01', '--boot', 'zz', '--reason', 'no')).exitCode).toBe(2);
    const decided = await onSocket('node', 'resolve', 'qhci-01', '--boot', 'aaaaaa', '--reason', 'b is a copy');
    expect(decided).toMatchObject({ exitCode: 0, stdout: 'qhci-01 may go on\n' });
    expect([(await ask('a')).status, (await ask('b')).status, (await ask('a')).status]).toEqual([200, 409, 200]);
    expect((await onSocket('node', 'list')).stdout).not.toContain('shared');
    expect((await onSocket('node', 'resolve', 'qhci-01', '--reason', 'again')).exitCode).toBe(3);
    expect((await onSocket('audit', 'list', '--subject', 'qhci-01')).stdout).toMatch(/identity decided.*b is a copy/);
  });

  test('an operator is added, listed and taken back', async () => {
    const added = await onSocket('operator', 'add', 'alice', '--role', 'admin');
    expect(added.stdout).toMatch(/^qxo_[A-Za-z0-9_-]{43}\n$/);
    expect((await onSocket('operator', 'list')).stdout).toMatch(/^NAME +ROLE +REVOKED\nalice +admin +-\n$/);
    const twice = await onSocket('operator', 'add', 'alice', '--role', 'viewer');
    expect([twice.exitCode, twice.stderr]).toEqual([2, expect.stringContaining('[NAME_TAKEN]')]);
    expect((await onSocket('operator', 'revoke', 'alice')).exitCode).toBe(0);
    const listed = document(await onSocket('operator', 'list', '--json'));
    expect(listed).toMatchObject({ schema: 'qx-fleet.operator/1', operators: [{ name: 'alice', role: 'admin' }] });
    expect(JSON.stringify(listed)).not.toContain('token');
  });

  test('a socket in a deep folder is reached too, and one that is not there is said to be so', async () => {
    const folder = join(await temporaryFolder(), 'a'.repeat(60), 'b'.repeat(60));
    await mkdir(folder, { recursive: true });
    await symlink(fleet.socket, join(folder, 'server.sock'));
    expect((await fleetTool(['node', 'list', '--socket', join(folder, 'server.sock')])).stdout).toBe('No host.\n');
    const nothing = await fleetTool(['node', 'list', '--socket', join(folder, 'other.sock'), '--json']);
    expect(nothing.exitCode).toBe(9);
    expect(document(nothing)).toMatchObject({
      schema: 'qx-fleet.error/1',
      code: 'SERVER_UNREACHABLE',
      verb: 'node list',
    });
  });
});

describe('as an operator, over the network', () => {
  const withCa = async (...args: readonly string[]) => {
    const ca = join(fleet.folder, 'site.crt');
    await writeFile(ca, SITE.ca);
    return [...args, '--server', fleet.origin, '--ca', ca];
  };

  test('the token is taken from the environment or a file, and the server names itself in the join string', async () => {
    const token = await operatorToken(fleet, 'alice', 'operator');
    const env = { QX_FLEET_TOKEN: token };
    const invited = await fleetTool(await withCa('node', 'invite', 'qhci-01', '--json'), env);
    const { join: line, expires_at } = document(invited) as unknown as { join: string; expires_at: string };
    expect(readInvitation(line).host).toBe(`127.0.0.1:${fleet.port}`);
    expect(Math.abs(Date.parse(expires_at) - Date.now() - 3_600_000)).toBeLessThan(60_000);

    const file = join(fleet.folder, 'token');
    await writeFile(file, `${token}\n`);
    await enrolled(fleet, 'qhci-02');
    const listed = document(await fleetTool(await withCa('node', 'list', '--token-file', file, '--json')));
    expect(listed).toMatchObject({ nodes: [{ node_id: 'qhci-02', state: 'enrolled' }] });
    const fromEnvironment = (await withCa('node', 'list')).filter((word) => !/^(--server|https:.*)$/.test(word));
    expect((await fleetTool(fromEnvironment, { ...env, QX_SERVER: fleet.origin })).stdout).toContain('qhci-02');
    const refused = await fleetTool(await withCa('operator', 'list'), env);
    expect([refused.exitCode, refused.stderr]).toEqual([5, expect.stringContaining('[ROLE_MISSING]')]);
  });

  test.each<[string, (origin: string) => string[], Record<string, string>, number, string]>([
    ['no token', (origin) => ['--server', origin], {}, 5, 'TOKEN_REQUIRED'],
    ['a token that is none', (origin) => ['--server', origin], { QX_FLEET_TOKEN: 'a\nb' }, 2, 'USAGE'],
    [
      'an authority that nobody trusts',
      (origin) => ['--server', origin],
      { QX_FLEET_TOKEN: 'qxo_a' },
      9,
      'SERVER_UNREACHABLE',
    ],
    [
      'plain HTTP to elsewhere',
      () => ['--server', 'http://updates.example.org'],
      { QX_FLEET_TOKEN: 'qxo_a' },
      5,
      'TLS_REQUIRED',
    ],
    ['no address', () => ['--server', 'updates'], { QX_FLEET_TOKEN: 'qxo_a' }, 2, 'USAGE'],
    ['two servers', (origin) => ['--server', origin, '--socket', '/s'], { QX_FLEET_TOKEN: 'qxo_a' }, 2, 'USAGE'],
    ['a file that is not there', (origin) => ['--server', origin, '--token-file', '/nonexistent'], {}, 1, 'NOT_FOUND'],
  ])('%s is refused before anything is sent', async (_what, args, env, exitCode, code) => {
    const ran = await fleetTool(['node', 'list', ...args(fleet.origin)], env);
    expect([ran.exitCode, ran.stderr]).toEqual([exitCode, expect.stringContaining(`[${code}]`)]);
    expect(ran.stderr).not.toContain('qxo_a');
    expect(fleet.log.lines.filter(({ event }) => event === 'request')).toEqual([]);
  });
});

describe('a mistake in the words is told before anything is sent', () => {
  test.each([
    [['node', 'invite']],
    [['node', 'invite', 'QHCI 01']],
    [['node', 'invite', 'qhci-01', '--label', 'rack']],
    [['node', 'invite', 'qhci-01', '--label', 'rack=r1', '--label', 'rack=r2']],
    [['node', 'invite', 'qhci-01', '--ttl', '8d']],
    [['node', 'invite', 'qhci-01', '--ttl', 'soon']],
    [['node', 'approve', 'qhci-01']],
    [['node', 'approve', 'qhci-01', '--fingerprint', 'abc']],
    [['node', 'revoke', 'qhci-01']],
    [['operator', 'add', 'alice']],
    [['operator', 'add', 'alice', '--role', 'boss']],
    [['nodes']],
  ])('%j', async (words) => {
    const ran = await onSocket(...words);
    expect(ran.exitCode).toBe(2);
    expect(ran.stdout).toBe('');
    expect(fleet.log.lines.filter(({ event }) => event === 'request')).toEqual([]);
  });
});

const VERBS = [
  'order list',
  'order drop',
  'node invite',
  'node list',
  'node approve',
  'node revoke',
  'operator add',
  'operator list',
  'operator revoke',
];
test.each(VERBS)('%s explains itself, with an example', async (verb) => {
  const { exitCode, stdout } = await fleetTool([...verb.split(' '), '--help']);
  expect(exitCode).toBe(0);
  for (const said of ['--json', '--server', '--token-file', '--socket', '--ca', 'Examples:', `  qx-fleet ${verb}`]) {
    expect(stdout).toContain(said);
  }
});
