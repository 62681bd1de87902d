import { X509Certificate } from 'node:crypto';
import { QxError } from '../../errors.ts';
import type { NodeAuthority } from '../../ports/authority.ts';
import type { Reading } from '../store.ts';

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
      next: 'give every server of this STATE_DATABASE_URL the same two files, NODE_CA_CERT and NODE_CA_KEY',
    },
  );
}

function isIssuedBy(certificate: string, authority: string): boolean {
  try {
    return new X509Certificate(certificate).verify(new X509Certificate(authority).publicKey);
  } catch {
    return false;
  }
}
