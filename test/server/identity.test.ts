import { describe, expect, test } from 'vitest';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import type { Route, Who } from '../../src/format/route.ts';
import { SERVER_ROUTES } from '../../src/format/routes.ts';
import { firstBroken } from '../../src/server/audit.ts';
import { createIdentity, type IdentityOptions } from '../../src/server/identity.ts';
import { authority } from '../support/certificates.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import {
  type As,
  CONTROL_PLANE_TOKEN,
  enrolled,
  type FleetBench,
  fleetBench,
  HOST,
  invited,
  oneConnection,
  operatorToken,
  trailOf,
} from '../support/fleet.ts';
import { certificateBy } from '../support/node-certificates.ts';
import { hostKey } from '../support/node-keys.ts';
import { onBothEngines } from '../support/stores.ts';
import { temporaryFolder } from '../support/temp.ts';

const { enroll, renew, nodes, revokeNode, inviteNode, addOperator, operators, revokeOperator } = NODE_ROUTES;
const DAY_MS = 86_400_000;

const onDisk = async (options: Partial<Parameters<typeof fleetBench>[0]> = {}) =>
  fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, ...options });
const renewAs = (fleet: FleetBench, as: As, id: string) => fleet.call(as, renew, { body: hostKey().renewAs(id) });

describe('T40: a host is not let in', () => {
  test('without a certificate', async () => {
    const fleet = await onDisk();
    const { id } = await enrolled(fleet, 'qhci-01');
    const { status, json } = await renewAs(fleet, {}, id);
    expect([status, json.code]).toEqual([401, 'CLIENT_CERT_REFUSED']);
    const named = await renewAs(fleet, { headers: { 'x-node-id': 'qhci-01', 'x-qx-dev-node': 'qhci-01' } }, id);
    expect([named.status, named.json.code]).toEqual([401, 'CLIENT_CERT_REFUSED']);
  });

  test('once its certificate has run out', async () => {
    const fleet = await onDisk();
    fleet.clock.aheadMs = -31 * DAY_MS;
    const { id, certificate } = await enrolled(fleet, 'qhci-01');
    fleet.clock.aheadMs = 0;
    const { status, json } = await renewAs(fleet, { certificate }, id);
    expect([status, json.code]).toEqual([401, 'CLIENT_CERT_REFUSED']);
  });

  test('once the server counts it as run out, even where TLS does not yet', async () => {
    const fleet = await onDisk();
    const { id, certificate } = await enrolled(fleet, 'qhci-01');
    const agent = oneConnection(certificate);
    expect((await renewAs(fleet, { agent }, id)).status).toBe(200);
    fleet.clock.aheadMs = 30 * DAY_MS;
    expect((await renewAs(fleet, { agent }, id)).json.code).toBe('CLIENT_CERT_REFUSED');
  });

  const certificates: readonly (readonly [string, (fleet: FleetBench) => Promise<As['certificate']>])[] = [
    ['for servers', (fleet) => certificateBy(fleet, { usages: ['serverAuth'] })],
    ['of the right authority that was never enrolled', (fleet) => certificateBy(fleet, {})],
    ['of another authority', async () => (await authority('Quantix nodes')).client('qhci-01')],
    ['of an authority', (fleet) => certificateBy(fleet, { isAuthority: true })],
  ];
  test.each(certificates)('by a certificate %s', async (_what, make) => {
    const fleet = await onDisk();
    const { id } = await enrolled(fleet, 'qhci-01');
    const certificate = await make(fleet);
    const { status, json } = await renewAs(fleet, certificate === undefined ? {} : { certificate }, id);
    expect([status, json.code]).toEqual([401, 'CLIENT_CERT_REFUSED']);
  });

  test('by a certificate that an enrolled host has issued itself', async () => {
    const fleet = await onDisk();
    const host = await enrolled(fleet, 'qhci-01', hostKey('p256'));
    const own = await certificateBy(fleet, { id: host.id, issuer: host.certificate });
    const chain = { cert: `${own.cert}${host.certificate.cert}`, key: own.key };
    for (const certificate of [own, chain]) {
      const { status, json } = await renewAs(fleet, { certificate }, host.id);
      expect([status, json.code]).toEqual([401, 'CLIENT_CERT_REFUSED']);
    }
  });

  test.each<[string, (id: string) => string[]]>([
    ['another host', () => ['urn:qx:node:00000000-0000-4000-8000-000000000000']],
    ['itself and another host', (id) => [`urn:qx:node:${id}`, 'urn:qx:node:00000000-0000-4000-8000-000000000000']],
    ['nobody', () => []],
  ])('by a known certificate whose name is that of %s', async (_whom, names) => {
    const fleet = await onDisk();
    const { id } = await enrolled(fleet, 'qhci-01');
    const certificate = await certificateBy(fleet, { id, names: names(id), isKnown: true });
    const { status, json } = await renewAs(fleet, { certificate }, id);
    expect([status, json.code]).toEqual([401, 'CLIENT_CERT_REFUSED']);
  });

  test('while the same with its own name would be', async () => {
    const fleet = await onDisk();
    const { id } = await enrolled(fleet, 'qhci-01');
    const certificate = await certificateBy(fleet, { id, isKnown: true });
    expect((await renewAs(fleet, { certificate }, id)).status).toBe(200);
  });
});

onBothEngines('T40: a host that is revoked', (freshUrl) => {
  test('is out at its next request, on a connection that it has kept open, and may be invited again', async () => {
    const fleet = await fleetBench({ url: await freshUrl(), environment: { READ_NEEDS_CERTIFICATE: 'true' } });
    const read = () => fleet.raw({ agent }, 'GET', '/api/v1/channels');
    const [a, b] = [await enrolled(fleet, 'qhci-01'), await enrolled(fleet, 'qhci-02')];
    const agent = oneConnection(a.certificate);
    expect((await renewAs(fleet, { agent }, a.id)).status).toBe(200);
    expect((await read()).status).toBe(200);
    const [socket] = Object.values(agent.freeSockets).flat();

    const body = { reason: 'stolen' };
    const revoked = await fleet.root(revokeNode, { params: { node: 'qhci-01' }, body });
    expect(revoked.json).toEqual({ node_id: 'qhci-01', id: a.id, state: 'revoked' });
    const refused = await renewAs(fleet, { agent }, a.id);
    expect([refused.status, refused.json.code]).toEqual([403, 'NODE_REVOKED']);
    expect((await read()).json.code).toBe('NODE_REVOKED');
    expect(Object.values(agent.freeSockets).flat()).toEqual([socket]);
    expect((await renewAs(fleet, { certificate: a.certificate }, a.id)).json.code).toBe('NODE_REVOKED');
    expect((await renewAs(fleet, { certificate: b.certificate }, b.id)).status).toBe(200);

    expect((await fleet.root(revokeNode, { params: { node: a.id }, body })).status).toBe(200);
    const trail = await trailOf(fleet, `node:${a.id}`);
    expect(trail.filter((line) => line.startsWith('node_revoked'))).toEqual(['node_revoked by root on the socket']);
    expect(await firstBroken(fleet.store.db, `node:${a.id}`)).toBeNull();
    const again = await enrolled(fleet, 'qhci-01');
    expect(again.id).not.toBe(a.id);
    expect((await renewAs(fleet, { agent }, a.id)).json.code).toBe('NODE_REVOKED');
  });

  test('a host that nobody knows cannot be revoked', async () => {
    const fleet = await fleetBench({ url: await freshUrl() });
    const asked = { params: { node: 'qhci-09' }, body: { reason: 'gone' } };
    const { status, json } = await fleet.root(revokeNode, asked);
    expect([status, json.code]).toEqual([404, 'NODE_UNKNOWN']);
  });
});

onBothEngines('an operator', (freshUrl) => {
  test('is let in by a token that is shown once, until it is taken back, and can be added anew', async () => {
    const fleet = await fleetBench({ url: await freshUrl() });
    const added = await fleet.root(addOperator, { body: { name: 'alice', role: 'admin' } });
    const token = String(added.json.token);
    expect([added.status, added.headers['cache-control']]).toEqual([201, 'no-store']);
    expect(token).toMatch(/^qxo_[A-Za-z0-9_-]{43}$/);
    expect((await fleet.call({ token }, nodes)).status).toBe(200);
    const kept = await fleet.store.db.selectFrom('operator').selectAll().execute();
    expect(JSON.stringify(kept)).not.toContain(token);
    const listed = await fleet.call({ token }, operators);
    expect(listed.json).toEqual([{ name: 'alice', role: 'admin', revoked_at: null }]);

    const twice = await fleet.call({ token }, addOperator, { body: { name: 'alice', role: 'viewer' } });
    expect([twice.status, twice.json.code]).toEqual([409, 'NAME_TAKEN']);
    const root = await fleet.call({ token }, addOperator, { body: { name: 'root', role: 'viewer' } });
    expect([root.status, root.json.code]).toEqual([409, 'NAME_TAKEN']);
    await fleet.call({ token }, addOperator, { body: { name: 'bob', role: 'viewer' } });
    await fleet.call({ token }, revokeOperator, { params: { operator: 'bob' } });
    await fleet.root(revokeOperator, { params: { operator: 'alice' } });
    await fleet.root(revokeOperator, { params: { operator: 'alice' } });
    const gone = await fleet.call({ token }, nodes);
    expect([gone.status, gone.json.code]).toEqual([401, 'TOKEN_REFUSED']);
    expect((await fleet.root(revokeOperator, { params: { operator: 'eve' } })).status).toBe(404);

    const anew = await operatorToken(fleet, 'alice', 'viewer');
    expect((await fleet.call({ token: anew }, nodes)).status).toBe(200);
    expect(await trailOf(fleet, 'operator:alice')).toEqual([
      'operator_added by root on the socket',
      'operator_revoked by root on the socket',
      'operator_added by root on the socket',
    ]);
    expect(await trailOf(fleet, 'operator:bob')).toEqual([
      'operator_added by admin alice',
      'operator_revoked by admin alice',
    ]);
    for (const name of ['alice', 'bob']) expect(await firstBroken(fleet.store.db, `operator:${name}`)).toBeNull();
  });

  test('of two with one name that are added at once, exactly one is', async () => {
    const fleet = await fleetBench({ url: await freshUrl() });
    const add = () => fleet.root(addOperator, { body: { name: 'alice', role: 'viewer' } });
    const answers = await Promise.all([add(), add(), add(), add()]);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409]);
    expect(await trailOf(fleet, 'operator:alice')).toHaveLength(1);
  });
});

describe('who may do what', () => {
  type Caller = 'nobody' | 'viewer' | 'operator' | 'admin' | 'node' | 'control-plane' | 'root';
  /** By the first that is refused, with what; whoever is not named is let in. */
  const REFUSED: Record<string, Partial<Record<Caller, string>>> = {
    enroll: {},
    renew: {
      nobody: 'CLIENT_CERT_REFUSED',
      viewer: 'CLIENT_CERT_REFUSED',
      operator: 'CLIENT_CERT_REFUSED',
      admin: 'CLIENT_CERT_REFUSED',
      'control-plane': 'CLIENT_CERT_REFUSED',
      root: 'CLIENT_CERT_REFUSED',
    },
    nodes: { nobody: 'TOKEN_REQUIRED', node: 'TOKEN_REQUIRED', 'control-plane': 'ROLE_MISSING' },
    inviteNode: {
      nobody: 'TOKEN_REQUIRED',
      viewer: 'ROLE_MISSING',
      node: 'TOKEN_REQUIRED',
      'control-plane': 'ROLE_MISSING',
    },
  };
  const forAdmins = { ...REFUSED.inviteNode, operator: 'ROLE_MISSING' };
  Object.assign(REFUSED, {
    invites: REFUSED.nodes,
    withdrawInvite: REFUSED.inviteNode,
    approveNode: REFUSED.inviteNode,
    revokeNode: forAdmins,
    resolveNode: forAdmins,
    addOperator: forAdmins,
    operators: forAdmins,
    revokeOperator: forAdmins,
  });

  test('each route for each caller', async () => {
    const fleet = await onDisk();
    const { certificate } = await enrolled(fleet, 'qhci-01');
    const token = (name: string) => operatorToken(fleet, name, name);
    const callers: Record<Exclude<Caller, 'root'>, As> = {
      nobody: {},
      viewer: { token: await token('viewer') },
      operator: { token: await token('operator') },
      admin: { token: await token('admin') },
      node: { certificate },
      'control-plane': { token: CONTROL_PLANE_TOKEN },
    };
    const seen: Record<string, Partial<Record<string, string>>> = {};
    const refusals = [
      'CLIENT_CERT_REFUSED',
      'TOKEN_REQUIRED',
      'TOKEN_REFUSED',
      'ROLE_MISSING',
      'FORBIDDEN',
      'TLS_REQUIRED',
    ];
    for (const [name, route] of Object.entries(NODE_ROUTES) as [string, Route][]) {
      const asked = { params: { node: 'nobody-01', operator: 'nobody' } as never, body: route.body && {} };
      const answers = [
        ...(await Promise.all(
          Object.entries(callers).map(async ([who, as]) => [who, await fleet.call(as, route, asked)] as const),
        )),
        ['root', await fleet.root(route, asked)] as const,
      ];
      const refused = answers.filter(([, { json }]) => refusals.includes(json.code ?? ''));
      seen[name] = Object.fromEntries(refused.map(([who, { json }]) => [who, json.code]));
    }
    expect(seen).toEqual(REFUSED);
  });

  const ladder: readonly (readonly [Who, As['headers'] & object, string])[] = [
    ['node-or-control-plane', { authorization: `Bearer ${CONTROL_PLANE_TOKEN}` }, 'control-plane'],
    ['node-or-viewer', { authorization: `Bearer ${CONTROL_PLANE_TOKEN}` }, 'ROLE_MISSING'],
    ['node-or-control-plane', { authorization: `Bearer ${CONTROL_PLANE_TOKEN}x` }, 'TOKEN_REFUSED'],
    ['node-or-control-plane', {}, 'TOKEN_REQUIRED'],
    ['local', {}, 'FORBIDDEN'],
    ['host-admin', {}, 'FORBIDDEN'],
  ];
  test.each(ladder)('%s with %j: %s', async (who, headers, outcome) => {
    const { store } = await onDisk();
    const caller = { via: 'tcp', address: 'a', headers, queryNames: [], certificate: null } as const;
    const options: IdentityOptions = {
      db: store.db,
      transport: 'tls',
      controlPlaneToken: CONTROL_PLANE_TOKEN,
      clock: fakeClock(),
      log: recordedLog(),
    };
    const outcomeOf = async (changes: Partial<IdentityOptions> = {}) => {
      const answer = await createIdentity({ ...options, ...changes })(who, caller);
      return answer !== null && 'refused' in answer ? answer.refused.code : answer?.principal.kind;
    };
    expect(await outcomeOf()).toBe(outcome);
    if (outcome === 'control-plane') expect(await outcomeOf({ controlPlaneToken: null })).toBe('TOKEN_REFUSED');
    expect(await outcomeOf({ transport: 'plain' })).toBe(outcome === 'FORBIDDEN' ? outcome : 'TLS_REQUIRED');
  });

  test('a token in the address is refused, and guessing is slowed down', async () => {
    const fleet = await onDisk();
    const token = await operatorToken(fleet, 'alice', 'viewer');
    const inAddress = await fleet.raw({ token }, 'GET', `/api/v1/nodes?token=${token}`);
    expect(inAddress.json.code).toBe('TOKEN_REFUSED');
    for (let i = 0; i < 6; i++) await fleet.call({ token: `qxo_${String(i).repeat(43)}` }, nodes);
    const { status, json } = await fleet.call({ token: `qxo_${'x'.repeat(43)}` }, nodes);
    expect([status, json.code]).toEqual([429, 'TOO_MANY_ATTEMPTS']);
    expect((await fleet.call({ token }, nodes)).status).toBe(200);
    expect((await fleet.root(nodes)).status).toBe(200);
  });
});

describe('plain HTTP', () => {
  test('is refused where somebody has to prove who he is, and root has the socket', async () => {
    const fleet = await onDisk({ hasTls: false });
    const token = await operatorToken(fleet, 'alice', 'admin');
    const key = hostKey();
    const body = key.enrolBy(`qx1.abcdef.${'a'.repeat(26)}.dev.localhost`);
    for (const [as, route, sent] of [
      [{}, enroll, body],
      [{ headers: { 'x-qx-dev-node': 'qhci-01' } }, renew, key.renewAs('x')],
      [{ token }, nodes, undefined],
      [{ token }, inviteNode, { name: 'qhci-01' }],
    ] as const) {
      const { status, json } = await fleet.call(as, route, sent === undefined ? {} : { body: sent });
      expect([route.path, status, json.code]).toEqual([route.path, 403, 'TLS_REQUIRED']);
      expect(json.next).toContain('TLS_CERT');
    }
    expect((await fleet.root(nodes)).status).toBe(200);
    const invited = await fleet.root(inviteNode, { body: { name: 'qhci-01', host: HOST } });
    expect(invited.json.code).toBe('TLS_REQUIRED');
  });

  test('with --dev on loopback is enough for operators, and a host is named by a header', async () => {
    const fleet = await onDisk({ hasTls: false, isDev: true });
    expect(fleet.log.lines.map(({ event }) => event)).toContain('development_nodes');
    const token = await operatorToken(fleet, 'alice', 'operator');
    expect((await fleet.call({ token }, nodes)).status).toBe(200);
    expect((await fleet.call({}, nodes)).json.code).toBe('TOKEN_REQUIRED');
    const { id } = await enrolled(fleet, 'qhci-01');
    const named = (name: string) => ({ 'x-qx-dev-node': name });
    expect((await renewAs(fleet, { headers: named('qhci-01') }, id)).status).toBe(200);
    expect((await renewAs(fleet, { headers: named('qhci-09') }, id)).json.code).toBe('CLIENT_CERT_REFUSED');
    await fleet.call({}, enroll, {
      body: hostKey().enrolBy(await invited(fleet, 'qhci-02', { needs_approval: true })),
    });
    expect((await renewAs(fleet, { headers: named('qhci-02') }, id)).json.code).toBe('APPROVAL_PENDING');
    for (const headers of [{ origin: 'https://evil.example' }, { host: 'evil.example' }]) {
      const foreign = await renewAs(fleet, { headers: { ...named('qhci-01'), ...headers } }, id);
      expect([foreign.status, foreign.json.code]).toEqual([403, 'FORBIDDEN']);
    }
    const elsewhere = await fleet.root(inviteNode, { body: { name: 'qhci-03', host: 'updates.example.org' } });
    expect(elsewhere.json.code).toBe('TLS_REQUIRED');
  });

  test('with --dev and a certificate, no header names a host', async () => {
    const fleet = await onDisk({ isDev: true });
    const { id } = await enrolled(fleet, 'qhci-01');
    const { json } = await renewAs(fleet, { headers: { 'x-qx-dev-node': 'qhci-01' } }, id);
    expect(json.code).toBe('CLIENT_CERT_REFUSED');
  });
});

describe('reading releases', () => {
  const open = Object.entries(SERVER_ROUTES).filter(([, { who }]) => who === 'open');
  const paths = open.map(([, { path }]) =>
    path.replace('{product}', 'quantix-os').replace('{version}', '1.0.0').replace('{artifact}', 'a'),
  );

  test('with READ_NEEDS_CERTIFICATE is for hosts and viewers', async () => {
    const fleet = await onDisk({ environment: { READ_NEEDS_CERTIFICATE: 'true' } });
    const { certificate } = await enrolled(fleet, 'qhci-01');
    const token = await operatorToken(fleet, 'alice', 'viewer');
    for (const path of [...paths, '/api/v1/openapi.json']) {
      const stranger = await fleet.raw({}, 'GET', path);
      const seen = path === '/health' || path === '/ready' ? 200 : 401;
      expect([path, stranger.status]).toEqual([path, seen]);
      for (const as of [{ certificate }, { token }]) {
        expect([path, [401, 403].includes((await fleet.raw(as, 'GET', path)).status)]).toEqual([path, false]);
      }
    }
  });

  test('is otherwise for everybody', async () => {
    const fleet = await onDisk();
    for (const path of paths) expect([401, 403]).not.toContain((await fleet.raw({}, 'GET', path)).status);
  });
});

test('T48: a stranger learns no token, no host and no path, and the log holds none of what is secret', async () => {
  const fleet = await onDisk();
  const token = await operatorToken(fleet, 'alice', 'admin');
  const join = await invited(fleet, 'qhci-01');
  const key = hostKey();
  const { json } = await fleet.call({}, enroll, { body: key.enrolBy(join) });
  const answers = [
    await fleet.raw({}, 'GET', '/health'),
    await fleet.raw({}, 'GET', '/api/v1/nodes/qhci-01/approve'),
    await fleet.call({}, nodes),
    await fleet.call({}, operators),
    await fleet.call({}, enroll, { body: hostKey().enrolBy(join) }),
    await fleet.call({ token: `${token}x` }, nodes),
    await fleet.call({ certificate: await certificateBy(fleet, {}) }, renew, { body: key.renewAs(String(json.id)) }),
  ];
  const secret = join.split('.')[2] ?? '';
  for (const { text } of answers) {
    for (const known of [token, secret, String(json.id), 'qhci-01', fleet.folder, 'alice']) {
      expect(text).not.toContain(known);
    }
  }
  const logged = JSON.stringify(fleet.log.lines);
  for (const known of [token, secret, key.enrolBy(join).proof]) expect(logged).not.toContain(known);
});
