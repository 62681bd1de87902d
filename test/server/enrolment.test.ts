import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { POSTGRES } from '../../scripts/support/postgres.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { readInvitation } from '../../src/format/invitation.ts';
import { enrolMessage } from '../../src/format/node-key.ts';
import { firstBroken } from '../../src/server/audit.ts';
import { enrolled, fleetBench, HOST, invited, SITE, trailOf } from '../support/fleet.ts';
import { hostKey, spkiOf } from '../support/node-keys.ts';
import { postgres } from '../support/postgres.ts';
import { requires } from '../support/requires.ts';
import { onBothEngines } from '../support/stores.ts';
import { temporaryFolder } from '../support/temp.ts';

const { enroll, renew, approveNode, revokeNode, inviteNode, nodes } = NODE_ROUTES;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

onBothEngines('a host that enrols', (freshUrl) => {
  const bench = async () => fleetBench({ url: await freshUrl() });

  test('gets a certificate, and is known by it from then on', async () => {
    const fleet = await bench();
    const join = await invited(fleet, 'qhci-01', {
      group: 'blue',
      labels: { rack: 'r1', zone: 'a' },
      carries_vms: false,
    });
    const pin = new X509Certificate(SITE.cert).publicKey.export({ type: 'spki', format: 'der' });
    const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(pin));
    expect(readInvitation(join)).toMatchObject({ host: HOST, pin: Buffer.from(digest).toString('base64url') });

    const answer = await fleet.call({}, enroll, { body: hostKey().enrolBy(join) });
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(answer).toMatchObject({ status: 200, json: { state: 'enrolled', node_id: 'qhci-01' } });
    const { id, certificate, authority, not_after, renew_after } = answer.json as Record<string, string>;
    expect(authority).toBe(fleet.authority.certificate);
    expect(new X509Certificate(certificate ?? '').subjectAltName).toBe(`URI:urn:qx:node:${id}`);
    expect((Date.parse(not_after ?? '') - Date.parse(renew_after ?? '')) / DAY_MS).toBe(10);

    const { json } = await fleet.root(nodes);
    expect(json).toEqual([
      expect.objectContaining({ node_id: 'qhci-01', id, state: 'enrolled', group: 'blue', carries_vms: false }),
    ]);
    const domains = await fleet.store.db.selectFrom('node_domain').select('domain').orderBy('domain').execute();
    expect(domains.map(({ domain }) => domain)).toEqual(['group:blue', 'rack=r1', 'zone=a']);
    expect(await trailOf(fleet, `node:${id}`)).toEqual(['node_enrolled by node qhci-01']);
    expect(await firstBroken(fleet.store.db, `node:${id}`)).toBeNull();
  });

  test('and lost the answer asks again, and gets the same certificate', async () => {
    const fleet = await bench();
    const body = hostKey('p256').enrolBy(await invited(fleet, 'qhci-01'));
    const first = await fleet.call({}, enroll, { body });
    fleet.clock.aheadMs = 2 * HOUR_MS;
    const second = await fleet.call({}, enroll, { body });
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(second.json).toEqual(first.json);
    expect(await fleet.store.db.selectFrom('node_certificate').selectAll().execute()).toHaveLength(1);
    expect(await trailOf(fleet, `node:${first.json.id}`)).toHaveLength(1);
    fleet.clock.aheadMs = 31 * DAY_MS;
    expect((await fleet.call({}, enroll, { body })).json.code).toBe('INVITE_REFUSED');
  });

  test('T41: with an invitation that another key has used is refused', async () => {
    const fleet = await bench();
    const join = await invited(fleet, 'qhci-01');
    expect((await fleet.call({}, enroll, { body: hostKey().enrolBy(join) })).status).toBe(200);
    const second = await fleet.call({}, enroll, { body: hostKey().enrolBy(join) });
    expect([second.status, second.json.code]).toEqual([403, 'INVITE_REFUSED']);
  });

  test('T41: too late is refused', async () => {
    const fleet = await bench();
    const join = await invited(fleet, 'qhci-01', { ttl_seconds: 60 });
    fleet.clock.aheadMs = 61_000;
    const answer = await fleet.call({}, enroll, { body: hostKey().enrolBy(join) });
    expect([answer.status, answer.json.code]).toEqual([403, 'INVITE_REFUSED']);
    expect(await fleet.store.db.selectFrom('node').selectAll().execute()).toEqual([]);
  });

  test('T41: of eight that use one invitation at once, exactly one wins', async () => {
    const fleet = await bench();
    const join = await invited(fleet, 'qhci-01');
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => fleet.call({}, enroll, { body: hostKey().enrolBy(join) })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 403, 403, 403, 403, 403, 403, 403]);
    const lost = answers.filter(({ status }) => status === 403).map(({ json }) => json.code);
    expect(new Set(lost)).toEqual(new Set(['INVITE_REFUSED']));
    expect(await fleet.store.db.selectFrom('node').select('name').execute()).toEqual([{ name: 'qhci-01' }]);
    expect(await fleet.store.db.selectFrom('node_certificate').select('node_id').execute()).toHaveLength(1);
  });

  test('of two invitations for one name at once, exactly one wins', async () => {
    const fleet = await bench();
    const joins = [await invited(fleet, 'qhci-01'), await invited(fleet, 'qhci-01')];
    const answers = await Promise.all(joins.map((join) => fleet.call({}, enroll, { body: hostKey().enrolBy(join) })));
    expect(answers.map(({ json }) => json.code ?? 'enrolled').sort()).toEqual(['NAME_TAKEN', 'enrolled']);
    const third = await fleet.root(inviteNode, { body: { name: 'qhci-01', host: HOST } });
    expect([third.status, third.json.code]).toEqual([409, 'NAME_TAKEN']);
  });

  test('with the key of another host is refused: a copied disk is no second host', async () => {
    const fleet = await bench();
    const { key } = await enrolled(fleet, 'qhci-01');
    const copied = await fleet.call({}, enroll, { body: key.enrolBy(await invited(fleet, 'qhci-02')) });
    expect([copied.status, copied.json.code]).toEqual([409, 'KEY_MISMATCH']);
    expect(await fleet.store.db.selectFrom('node').selectAll().execute()).toHaveLength(1);
  });

  test('waits until an operator approves the fingerprint of its key, also after the invitation has run out', async () => {
    const fleet = await bench();
    const body = hostKey().enrolBy(await invited(fleet, 'qhci-01', { needs_approval: true }));
    const waiting = await fleet.call({}, enroll, { body });
    expect(waiting).toMatchObject({ status: 202, json: { state: 'pending', node_id: 'qhci-01' } });
    const key_fingerprint = String(waiting.json.key_fingerprint);
    expect((await fleet.call({}, enroll, { body })).json).toEqual(waiting.json);

    const approve = (fingerprint: string) =>
      fleet.root(approveNode, { params: { node: 'qhci-01' }, body: { key_fingerprint: fingerprint } });
    const wrong = await approve('0'.repeat(64));
    expect([wrong.status, wrong.json.code]).toEqual([409, 'KEY_MISMATCH']);
    expect((await fleet.call({}, enroll, { body })).status).toBe(202);
    expect((await approve(key_fingerprint)).json).toMatchObject({ state: 'enrolled' });
    expect((await approve(key_fingerprint)).json).toMatchObject({ state: 'enrolled' });

    fleet.clock.aheadMs = 3 * HOUR_MS;
    const answer = await fleet.call({}, enroll, { body });
    expect(answer).toMatchObject({ status: 200, json: { state: 'enrolled' } });
    const subject = `node:${answer.json.id}`;
    expect(await trailOf(fleet, subject)).toEqual([
      'node_pending by node qhci-01',
      'node_approved by root on the socket',
    ]);
    expect(await firstBroken(fleet.store.db, subject)).toBeNull();
  });

  test('and was revoked while it waited is told so', async () => {
    const fleet = await bench();
    const body = hostKey().enrolBy(await invited(fleet, 'qhci-01', { needs_approval: true }));
    await fleet.call({}, enroll, { body });
    await fleet.root(revokeNode, { params: { node: 'qhci-01' }, body: { reason: 'nobody knows it' } });
    const refused = await fleet.call({}, enroll, { body });
    expect([refused.status, refused.json.code]).toEqual([403, 'NODE_REVOKED']);
    const { json } = await fleet.root(approveNode, {
      params: { node: 'qhci-01' },
      body: { key_fingerprint: String((await fleet.root(nodes)).text.match(/[a-f0-9]{64}/)?.[0]) },
    });
    expect(json.code).toBe('NODE_REVOKED');
  });

  test('renews by a fresh key; the certificate before stays good, and asking twice changes nothing', async () => {
    const fleet = await bench();
    fleet.clock.aheadMs = -DAY_MS;
    const { id, certificate, key } = await enrolled(fleet, 'qhci-01');
    const fresh = hostKey('p256');
    const body = fresh.renewAs(id);
    const renewed = await fleet.call({ certificate }, renew, { body });
    expect(renewed).toMatchObject({ status: 200, json: { state: 'enrolled', node_id: 'qhci-01', id } });
    expect((await fleet.call({ certificate }, renew, { body })).json).toEqual(renewed.json);
    const newer = { cert: String(renewed.json.certificate), key: fresh.key };
    for (const one of [certificate, newer]) {
      const again = await fleet.call({ certificate: one }, renew, { body: hostKey().renewAs(id) });
      expect(again.status).toBe(200);
    }
    fleet.clock.aheadMs = 0;
    const latest = hostKey();
    const last = await fleet.call({ certificate: newer }, renew, { body: latest.renewAs(id) });
    const lastCertificate = { cert: String(last.json.certificate), key: latest.key };
    for (const [used, as] of [
      [fresh, newer],
      [key, lastCertificate],
    ] as const) {
      const refused = await fleet.call({ certificate: as }, renew, { body: used.renewAs(id) });
      expect([refused.status, refused.json.code]).toEqual([409, 'KEY_MISMATCH']);
    }
    const trail = await trailOf(fleet, `node:${id}`);
    expect(trail).toEqual(['node_enrolled by node qhci-01', ...Array(4).fill('certificate_renewed by node qhci-01')]);
    expect(await firstBroken(fleet.store.db, `node:${id}`)).toBeNull();
  });

  test('T46: cannot renew as another host, nor with a key of another host', async () => {
    const fleet = await bench();
    const [a, b] = [await enrolled(fleet, 'qhci-01'), await enrolled(fleet, 'qhci-02')];
    const asOther = await fleet.call({ certificate: a.certificate }, renew, { body: hostKey().renewAs(b.id) });
    expect([asOther.status, asOther.json.code]).toEqual([403, 'SIGNATURE_INVALID']);
    const withOther = await fleet.call({ certificate: a.certificate }, renew, { body: b.key.renewAs(a.id) });
    expect([withOther.status, withOther.json.code]).toEqual([409, 'KEY_MISMATCH']);
    const named = await fleet.call({ certificate: a.certificate }, renew, {
      body: { ...hostKey().renewAs(a.id), node_id: 'qhci-02' },
    });
    expect([named.status, named.json.code]).toEqual([400, 'BAD_REQUEST']);
  });
});

describe('T41: an enrolment is refused', () => {
  type Body = ReturnType<ReturnType<typeof hostKey>['enrolBy']>;
  const otherKeys = {
    'RSA-1024': () => generateKeyPairSync('rsa', { modulusLength: 1024 }),
    'P-192': () => generateKeyPairSync('ec', { namedCurve: 'prime192v1' }),
    'P-384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  };
  const withOther = (kind: keyof typeof otherKeys) => (body: Body) => {
    const { publicKey, privateKey } = otherKeys[kind]();
    const spki = spkiOf(publicKey);
    const message = enrolMessage(body.invite.split('.')[0] ?? '', spki);
    return {
      ...body,
      spki,
      proof: sign('sha256', message, privateKey).subarray(0, 64).toString('base64').padEnd(88, '='),
    };
  };

  test.each<[string, number, string, (body: Body) => object]>([
    ['RSA-1024', 400, '', withOther('RSA-1024')],
    ['P-192', 400, '', withOther('P-192')],
    ['P-384', 400, '', withOther('P-384')],
    ['a proof by another key', 403, 'SIGNATURE_INVALID', (body) => ({ ...body, spki: hostKey().spki })],
    [
      'a proof for another purpose',
      403,
      'SIGNATURE_INVALID',
      (body) => ({ ...body, proof: hostKey().renewAs('x').proof }),
    ],
    [
      'a wrong secret',
      403,
      'INVITE_REFUSED',
      (body) => ({ ...body, invite: body.invite.replace(/.$/, (l) => (l === 'a' ? 'b' : 'a')) }),
    ],
    ['names that the host would like', 400, 'BAD_REQUEST', (body) => ({ ...body, san: 'admin' })],
    ['an id that the host would like', 400, 'BAD_REQUEST', (body) => ({ ...body, id: 'mine', node_id: 'qhci-02' })],
    ['a request for a certificate', 400, 'BAD_REQUEST', (body) => ({ ...body, csr: 'MIIB' })],
    ['1 MB', 413, 'BODY_TOO_LARGE', (body) => ({ ...body, spki: 'A'.repeat(1 << 20) })],
  ])('%s', async (_what, status, code, change) => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    const body = change(hostKey().enrolBy(await invited(fleet, 'qhci-01')));
    const answer = await fleet.call({}, enroll, { body });
    expect(answer.status).toBe(status);
    if (code !== '') expect(answer.json.code).toBe(code);
    expect(await fleet.store.db.selectFrom('node').selectAll().execute()).toEqual([]);
    expect(await fleet.store.db.selectFrom('node_certificate').selectAll().execute()).toEqual([]);
  });

  test('after some wrong secrets for a while, and with the right one never', async () => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    const right = hostKey().enrolBy(await invited(fleet, 'qhci-01'));
    const wrong = hostKey().enrolBy(`qx1.nobody.${'a'.repeat(28)}.dev.localhost`);
    for (let i = 0; i < 6; i++)
      expect((await fleet.call({}, enroll, { body: wrong })).json.code).toBe('INVITE_REFUSED');
    const waits = await fleet.call({}, enroll, { body: wrong });
    expect([waits.status, waits.json.code, waits.headers['retry-after']]).toEqual([429, 'TOO_MANY_ATTEMPTS', '1']);
    expect((await fleet.call({}, enroll, { body: right })).status).toBe(200);
  });
});

requires({ commands: ['openssl'] })('T41: what was issued', () => {
  test('is no authority, for clients only, and has the name that the server chose', async () => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    const { id, certificate } = await enrolled(fleet, 'qhci-01');
    const file = join(fleet.folder, 'node.crt');
    await writeFile(file, certificate.cert);
    const { stdout } = await execa('openssl', ['x509', '-in', file, '-noout', '-text']);
    expect(stdout).toMatch(/X509v3 Basic Constraints: critical\s+CA:FALSE/);
    expect(stdout).toMatch(/X509v3 Extended Key Usage: *\n\s+TLS Web Client Authentication\n/);
    expect(stdout).toMatch(new RegExp(`X509v3 Subject Alternative Name: *\\n\\s+URI:urn:qx:node:${id}\\n`));
  });
});

requires(POSTGRES)('two servers of one fleet', () => {
  const freshUrl = postgres();

  test('with an authority each: the second certifies nobody once the first has, and does not start any more', async () => {
    const url = await freshUrl();
    const [first, second] = [await fleetBench({ url }), await fleetBench({ url })];
    const body = hostKey().enrolBy(await invited(second, 'qhci-02'));
    const { name } = await enrolled(first, 'qhci-01');
    const refused = await second.call({}, enroll, { body });
    expect([refused.status, refused.json]).toEqual([
      500,
      expect.objectContaining({ code: 'AUTHORITY_DIFFERS', detail: expect.stringContaining(name) }),
    ]);
    expect((await first.root(nodes)).json).toHaveLength(1);
    await expect(fleetBench({ url })).rejects.toMatchObject({
      code: 'AUTHORITY_DIFFERS',
      next: expect.stringContaining('the same two files'),
    });
    // Nobody is left who would be a stranger to it.
    await first.root(revokeNode, { params: { node: name }, body: { reason: 'moved' } });
    expect((await second.call({}, enroll, { body })).status).toBe(200);
  });
});
