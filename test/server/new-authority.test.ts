import { expect, test } from 'vitest';
import { POSTGRES } from '../../scripts/support/postgres.ts';
import { AUDIT_ROUTES } from '../../src/format/audit-routes.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { enrolled, fleetBench } from '../support/fleet.ts';
import { postgres } from '../support/postgres.ts';
import { requires } from '../support/requires.ts';

/** Each bench has files of its own: the second server of a state is one whose NODE_CA_CERT and NODE_CA_KEY are lost. */

requires(POSTGRES)('a server that has lost the files of its authority', () => {
  const freshUrl = postgres();

  test('does not start, says how it does, and then takes its hosts in anew', async () => {
    const url = await freshUrl();
    const before = await fleetBench({ url });
    const host = await enrolled(before, 'qhci-01');
    const plain = fleetBench({ url });
    await expect(plain).rejects.toMatchObject({
      code: 'AUTHORITY_DIFFERS',
      next: expect.stringContaining('qx-update-server --new-authority'),
    });

    const fleet = await fleetBench({ url, newAuthority: 'the disk with keys/ is dead' });
    const status = { params: { nodeId: 'qhci-01' } };
    const locked = await fleet.call({ certificate: host.certificate }, MAINTENANCE_ROUTES.maintenanceStatus, status);
    expect(locked.json).toMatchObject({ code: 'CLIENT_CERT_REFUSED', next: expect.stringContaining('node invite') });
    await fleet.root(NODE_ROUTES.revokeNode, { params: { node: 'qhci-01' }, body: { reason: 'a new authority' } });
    const again = await enrolled(fleet, 'qhci-01');
    const known = await fleet.call({ certificate: again.certificate }, MAINTENANCE_ROUTES.maintenanceStatus, status);
    expect(known).toMatchObject({ status: 200 });
    const { text } = await fleet.raw({}, 'GET', '/health');
    expect(JSON.parse(text)).toMatchObject({ status: 'healthy' });
    expect((await fleet.root(AUDIT_ROUTES.verifyAudit)).json).toMatchObject({ ok: true });
    const events = await fleet.store.db
      .selectFrom('audit')
      .select('entry')
      .where('subject', '=', 'authority')
      .execute();
    expect(events.map(({ entry }) => JSON.parse(entry))).toMatchObject([
      { event: 'authority_replaced', reason: 'the disk with keys/ is dead', hosts: 1 },
    ]);
  });

  test('that is told so without a reason to be changes nothing', async () => {
    const fleet = await fleetBench({ url: await freshUrl(), newAuthority: 'nobody is enrolled' });
    const events = await fleet.store.db
      .selectFrom('audit')
      .select('event')
      .where('subject', '=', 'authority')
      .execute();
    expect(events).toEqual([]);
  });
});
