import { X509Certificate } from 'node:crypto';
import { QxError } from '../../errors.ts';
import type { NodeAuthority } from '../../ports/authority.ts';
import type { Log } from '../../ports.ts';
import { record } from '../audit.ts';
import type { Reading, Store } from '../store.ts';

/**
 * All servers of a fleet have the same authority of nodes: a host that one of them certified would be a stranger to another one.
 * @throws QxError AUTHORITY_DIFFERS when a host of this fleet has a certificate of somebody else's
 */
export async function expectOneAuthority(db: Reading, { certificate }: NodeAuthority, nowMs: number): Promise<void> {
  const latest = await db
    .selectFrom('node_certificate as c')
    .innerJoin('node as n', 'n.id', 'c.node_id')
    .select(['n.name', 'c.certificate'])
    .where('n.state', '=', 'enrolled')
    .where('c.not_after_ms', '>', nowMs)
    .orderBy('c.not_after_ms', 'desc')
    .limit(1)
    .executeTakeFirst();
  if (latest === undefined || isIssuedBy(latest.certificate, certificate)) return;
  throw new QxError(
    'AUTHORITY_DIFFERS',
    `${latest.name} has its certificate from another authority than this server's`,
    {
      next: 'give every server of this STATE_DATABASE_URL the same two files, NODE_CA_CERT and NODE_CA_KEY; when they are lost for good: qx-update-server --new-authority REASON',
    },
  );
}

/**
 * The files of the old one are lost. What it certified counts no more, so that the servers are of one mind again; each host enrols
 * anew. The other servers of this state go on with the old one until they are given the same files.
 */
export function beginNewAuthority({ store, log }: Machine, authority: NodeAuthority, by: Beginning): Promise<number> {
  return store.change(async (change) => {
    const { nowMs, reason } = by;
    const counting = await change
      .selectFrom('node_certificate')
      .select(['fingerprint', 'node_id', 'certificate'])
      .where('not_after_ms', '>', nowMs)
      .execute();
    const ended = counting.filter(({ certificate }) => !isIssuedBy(certificate, authority.certificate));
    for (const { fingerprint } of ended) {
      await change
        .updateTable('node_certificate')
        .set({ not_after_ms: nowMs })
        .where('fingerprint', '=', fingerprint)
        .execute();
    }
    const hosts = new Set(ended.map(({ node_id }) => node_id)).size;
    if (hosts === 0) return hosts;
    const event = { subject: 'authority', actor: 'root at the command line', event: 'authority_replaced' };
    await record(change, { ...event, fields: { reason, hosts }, atMs: nowMs });
    log.warn('authority_replaced', {
      reason,
      hosts,
      detail: 'each of these hosts has to be revoked, invited and enrolled',
    });
    return hosts;
  });
}

interface Machine {
  readonly store: Pick<Store, 'change'>;
  readonly log: Log;
}

interface Beginning {
  readonly reason: string;
  readonly nowMs: number;
}

function isIssuedBy(certificate: string, authority: string): boolean {
  try {
    return new X509Certificate(certificate).verify(new X509Certificate(authority).publicKey);
  } catch {
    return false;
  }
}
