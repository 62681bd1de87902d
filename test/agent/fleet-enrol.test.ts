import { createHash, X509Certificate } from 'node:crypto';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { enrol } from '../../src/agent/fleet/enrol.ts';
import { loadEnrolling, loadMembership, saveMembership } from '../../src/agent/fleet/membership.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import type { Membership } from '../../src/format/membership.ts';
import { steppedClock } from '../support/agent-host.ts';
import { authority } from '../support/certificates.ts';
import { refusal } from '../support/documents.ts';
import { enrolled, type FleetBench, fleetBench, trailOf } from '../support/fleet.ts';
import { joinString, newMember, openMember, RELEASE, type TestMember } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/** A host becomes a member of a fleet: over real TLS, to a server that no authority of the host vouches for. */

const DAY_MS = 86_400_000;

let fleet: FleetBench;
beforeEach(async () => {
  fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
});

const fleetFile = (member: TestMember): string => join(member.root, 'quantix/limiquantix/fleet.json');

describe('enrolment', () => {
  test('makes a key that only root can read, and a certificate for it that the fleet knows', async () => {
    const member = await openMember();
    const join = await joinString(fleet, 'qhci-01', { group: 'edge' });
    expect(await enrol(member, `${join}\n`, {})).toMatchObject({
      kind: 'enrolled',
      membership: { node_id: 'qhci-01' },
    });
    expect((await stat(fleetFile(member))).mode & 0o777).toBe(0o600);
    const membership = await loadMembership(member.files);
    expect(membership).toMatchObject({ server: fleet.origin, node_id: 'qhci-01' });
    expect(new X509Certificate(membership?.certificate ?? '').subjectAltName).toBe(`URI:urn:qx:node:${membership?.id}`);
    expect(await loadEnrolling(member.files)).toBeNull();
    expect(await trailOf(fleet, `node:${membership?.id}`)).toEqual(['node_enrolled by node qhci-01']);
    // The secret of the join string is of no use any more, and nobody keeps it.
    expect(await readFile(fleetFile(member), 'utf8')).not.toContain(join.split('.')[2]);
  });

  test('is known to the server by its certificate from then on, and speaks for nobody else', async () => {
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    await enrolled(fleet, 'qhci-02');
    expect(await member.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    const { json } = await fleet.root(MAINTENANCE_ROUTES.listMaintenance);
    expect(json).toMatchObject({ count: 1, nodes: [{ node_id: 'qhci-01', target_version: '1.1.0' }] });
  });

  test('an answer that was lost costs nothing: the same host asks again with the same key', async () => {
    const member = await openMember();
    const join = await joinString(fleet, 'qhci-01');
    const lost = {
      ...member,
      http: {
        ...member.http,
        post: async (...sent: Parameters<typeof member.http.post>) => {
          await member.http.post(...sent);
          throw new Error('the line is dead');
        },
      },
    };
    await expect(enrol(lost, join, {})).rejects.toThrow('the line is dead');
    expect(await loadMembership(member.files)).toBeNull();
    expect(await enrol(member, join, {})).toMatchObject({ kind: 'enrolled' });
    const { json } = await fleet.root(NODE_ROUTES.nodes);
    expect(json).toHaveLength(1);
  });

  test('the key of the server is not that of the join string: nothing is sent to it', async () => {
    const member = await openMember();
    const parts = (await joinString(fleet, 'qhci-01')).split('.');
    const forged = [...parts.slice(0, 3), 'A'.repeat(43), ...parts.slice(4)].join('.');
    await expect(enrol(member, forged, {})).rejects.toMatchObject({
      code: 'SERVER_KEY_WRONG',
      next: expect.stringContaining('qx-update enroll --again'),
    });
    expect(fleet.log.lines.filter(({ event }) => event.startsWith('invitation'))).toEqual([]);
    expect(await enrol(member, parts.join('.'), {})).toMatchObject({ kind: 'enrolled' });
  });

  test.each([
    ['no join string', async () => 'qx1.nothing', 'BAD_REQUEST'],
    [
      'of an invitation that never was',
      async () => {
        const [head, , secret, ...rest] = (await joinString(fleet, 'qhci-01')).split('.');
        return [head, 'abcdefgh', secret, ...rest].join('.');
      },
      'INVITE_REFUSED',
    ],
    [
      'that another host has used',
      async () => {
        const join = await joinString(fleet, 'qhci-01');
        await enrol(await openMember(), join, {});
        return join;
      },
      'INVITE_REFUSED',
    ],
  ])('T41 %s is refused, and leaves nothing behind', async (_what, makeJoin, code) => {
    const member = await openMember();
    const join = await makeJoin();
    expect(await refusal(() => enrol(member, join, {}))).toBe(code);
    expect([await loadMembership(member.files), await loadEnrolling(member.files)]).toEqual([null, null]);
  });

  test('a key that others could read is closed again, and the operator hears of it', async () => {
    const member = await newMember(fleet, 'qhci-01');
    await chmod(fleetFile(member), 0o644);
    await member.duties.tick();
    expect((await stat(fleetFile(member))).mode & 0o777).toBe(0o600);
    expect(member.log.lines).toContainEqual(expect.objectContaining({ event: 'fleet_key_was_readable' }));
  });

  test('a file of the fleet that is damaged says what to do, and lets nothing pass', async () => {
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    await writeFile(fleetFile(member), '{');
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringMatching(/fleet\.json is not acceptable JSON.*mv .*fleet\.json\.bad/),
    });
  });

  test('a member stays where it is, until it is told to go', async () => {
    const member = await newMember(fleet, 'qhci-01');
    const join = await joinString(fleet, 'qhci-02');
    expect(await refusal(() => enrol(member, join, {}))).toBe('ALREADY_ENROLLED');
    expect(await loadMembership(member.files)).toMatchObject({ node_id: 'qhci-01' });
    await enrol(member, join, { again: true });
    expect(await loadMembership(member.files)).toMatchObject({ node_id: 'qhci-02' });
  });
});

describe('approval', () => {
  test('a host that waits for it asks again by itself, and is a member once it is let in', async () => {
    const member = await openMember();
    const answer = await enrol(member, await joinString(fleet, 'qhci-01', { needs_approval: true }), {});
    expect(answer).toMatchObject({ kind: 'pending', nodeId: 'qhci-01' });
    await member.duties.tick();
    expect(await loadMembership(member.files)).toBeNull();
    const { keyFingerprint: key_fingerprint } = answer as Extract<typeof answer, { kind: 'pending' }>;
    await fleet.root(NODE_ROUTES.approveNode, { params: { node: 'qhci-01' }, body: { key_fingerprint } });
    member.clock.advance(60_000);
    await member.duties.tick();
    expect(await loadMembership(member.files)).toMatchObject({ node_id: 'qhci-01' });
    expect(await loadEnrolling(member.files)).toBeNull();
  });
});

const validFromMs = (membership: Membership | null): number =>
  new X509Certificate(membership?.certificate ?? '').validFromDate.getTime();

/** A server that has announced the key that it will have next, in a file of its own. */
async function announcing(): Promise<{ bench: FleetBench; nextPin: string }> {
  const next = await (await authority('next')).issue('127.0.0.1');
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'next.crt'), next.cert);
  const environment = { TLS_NEXT_CERT: join(folder, 'next.crt') };
  const spki = new X509Certificate(next.cert).publicKey.export({ type: 'spki', format: 'der' });
  return {
    bench: await fleetBench({ url: `sqlite:${folder}/fleet.db`, environment }),
    nextPin: createHash('sha256').update(spki).digest('base64url'),
  };
}

describe('a new TLS key of the server', () => {
  test('is told to hosts before it comes, and the list says who knows it', async () => {
    const { bench, nextPin } = await announcing();
    const member = await newMember(bench, 'qhci-01');
    const own = await loadMembership(member.files);
    expect(own?.pins).toEqual([own?.pin, nextPin]);
    await enrolled(bench, 'qhci-02');
    await bench.store.change((change) =>
      change.updateTable('node').set({ told_pins: null }).where('name', '=', 'qhci-02').execute(),
    );
    expect((await bench.root(NODE_ROUTES.nodes)).json).toMatchObject([
      { node_id: 'qhci-01', knows_next_key: true },
      { node_id: 'qhci-02', knows_next_key: false },
    ]);
    expect((await fleet.root(NODE_ROUTES.nodes)).json).toEqual([]);
  });

  test('a member of before learns it when it renews its certificate', async () => {
    const { bench, nextPin } = await announcing();
    const member = await newMember(bench, 'qhci-01');
    const { pins: _, ...before } = (await loadMembership(member.files)) as Membership;
    await saveMembership(member.files, before);
    member.clock.advance(20.1 * DAY_MS);
    bench.clock.aheadMs = 20.1 * DAY_MS;
    await member.duties.tick();
    expect(await loadMembership(member.files)).toMatchObject({ pin: before.pin, pins: [before.pin, nextPin] });
  });

  test('once it is there, it is believed by those who were told, and by no others', async () => {
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    const own = (await loadMembership(member.files)) as Membership;
    const old = 'A'.repeat(43);
    await saveMembership(member.files, { ...own, pin: old, pins: [old, own.pin ?? ''] });
    expect(await member.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    await saveMembership(member.files, { ...own, pin: old, pins: [old] });
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringMatching(/key is none that the fleet has told.*enroll --again/s),
    });
  });
});

describe('renewal', () => {
  test('at two thirds of its time, with a fresh key', async () => {
    const member = await newMember(fleet, 'qhci-01');
    const before = await loadMembership(member.files);
    member.clock.advance(19 * DAY_MS);
    await member.duties.tick();
    expect(await loadMembership(member.files)).toEqual(before);
    member.clock.advance(1.1 * DAY_MS);
    fleet.clock.aheadMs = 20.1 * DAY_MS;
    await member.duties.tick();
    const after = await loadMembership(member.files);
    expect(Date.parse(after?.not_after ?? '')).toBeGreaterThan(Date.parse(before?.not_after ?? ''));
    expect(after?.private_key).not.toBe(before?.private_key);
    expect(await trailOf(fleet, `node:${after?.id}`)).toContain('certificate_renewed by node qhci-01');
  });

  test('of a certificate that the server made while its clock was far ahead: the host is let in, and has it made anew', async () => {
    fleet.clock.aheadMs = 60 * DAY_MS;
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    const before = await loadMembership(member.files);
    expect(validFromMs(before)).toBeGreaterThan(Date.now());
    fleet.clock.aheadMs = 0;
    expect(await member.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    await member.duties.tick();
    const after = await loadMembership(member.files);
    expect(validFromMs(after)).toBeLessThan(Date.now());
    expect(Date.parse(after?.renew_after ?? '') - Date.now()).toBeLessThan(21 * DAY_MS);
    // Where the clock of the host is behind instead, it asks once a day and no more.
    const behind = await openMember({ root: member.root, clock: steppedClock('2020-01-01T00:00:00Z') });
    for (let i = 0; i < 10; i++) {
      await behind.duties.tick();
      behind.clock.advance(3_600_000);
    }
    const renewals = (await trailOf(fleet, `node:${after?.id}`)).filter((one) => one.startsWith('certificate_renewed'));
    expect(renewals).toHaveLength(2);
  });

  test('a server that cannot be reached is asked again, and the old certificate goes on counting', async () => {
    const member = await newMember(fleet, 'qhci-01');
    const before = await loadMembership(member.files);
    member.clock.advance(21 * DAY_MS);
    await member.files.writeAtomic(
      '/quantix/limiquantix/fleet.json',
      new TextEncoder().encode(JSON.stringify({ ...before, server: 'https://127.0.0.1:9' })),
      0o600,
    );
    await member.duties.tick();
    expect(member.log.lines).toContainEqual(expect.objectContaining({ event: 'certificate_not_renewed' }));
    expect((await loadMembership(member.files))?.certificate).toBe(before?.certificate);
  });

  test('a host that was put out of the fleet gets no certificate and no grant', async () => {
    const member = await newMember(fleet, 'qhci-01');
    await fleet.root(NODE_ROUTES.revokeNode, { params: { node: 'qhci-01' }, body: { reason: 'stolen' } });
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringContaining('put out of the fleet'),
    });
  });
});
