import { QxError } from '../../errors.ts';
import type { Certified } from '../../format/fleet-routes.ts';
import { renewMessage } from '../../format/node-key.ts';
import type { Principal } from '../../ports/serving.ts';
import { actorOf, record } from '../audit.ts';
import { INVITE_AGAIN } from '../identity.ts';
import { type Fleet, membershipOf } from '../membership.ts';
import { keepCertificate, keyFingerprint } from '../nodes.ts';
import type { Change } from '../store.ts';
import { hearRenewal } from './boots.ts';
import { certified } from './enrolment.ts';
import { checkProof } from './proof.ts';
import { lockNode } from './rows.ts';

interface Renewal {
  readonly spki: string;
  readonly proof: string;
}

/** A host that lost the answer asks again with the same key, and gets the same certificate. */
export async function renew(fleet: Fleet, { spki, proof }: Renewal, principal: Principal | null): Promise<Certified> {
  if (principal?.kind !== 'node') throw new QxError('FORBIDDEN', 'only a host renews its certificate');
  const { store, clock } = fleet;
  const membership = membershipOf(fleet);
  const { id, name } = principal;
  checkProof(spki, renewMessage(id, spki), proof);
  const nowMs = clock.nowMs();
  const issued = await membership.authority.issue({ id, name, spki }, nowMs);
  const renewed = await store.change(async (change) => {
    const node = await lockNode(store, change, id);
    // The caller was let in before it came here.
    if (node.state !== 'enrolled') {
      throw new QxError('NODE_REVOKED', 'this host was put out of the fleet', { next: INVITE_AGAIN });
    }
    const refused = await hearRenewal(change, node, principal, { actor: actorOf(principal), nowMs });
    if (refused !== null) return refused;
    if (!(await keepCertificate(change, id, spki, issued))) {
      return certified(change, membership, principal, await renewedBefore(change, principal, spki));
    }
    const fields = { name, key_fingerprint: keyFingerprint(spki), certificate: issued.fingerprint };
    const actor = actorOf(principal);
    await record(change, { subject: `node:${id}`, actor, event: 'certificate_renewed', fields, atMs: nowMs });
    const kept = { certificate: issued.certificate, not_after_ms: issued.notAfterMs };
    return certified(change, membership, principal, kept);
  });
  if (renewed instanceof QxError) throw renewed;
  return renewed;
}

async function renewedBefore(change: Change, { id, fingerprint }: Extract<Principal, { kind: 'node' }>, spki: string) {
  const certificates = change.selectFrom('node_certificate').selectAll();
  const kept = await certificates.where('spki', '=', spki).executeTakeFirstOrThrow();
  const own = await certificates.where('fingerprint', '=', fingerprint).executeTakeFirst();
  // Never one from before the certificate that the host is here with: that would be a way back to an older key.
  const isNewer = kept.fingerprint !== fingerprint && kept.not_after_ms >= (own?.not_after_ms ?? 0);
  if (kept.node_id === id && isNewer) return kept;
  throw new QxError('KEY_MISMATCH', 'a certificate is renewed for a fresh key, and this one is in use already', {
    next: 'make a new key and prove that one',
  });
}
