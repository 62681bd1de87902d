import type { Change, MaintenanceTable, NodeTable } from './store.ts';

/** What the control plane is told, kept in the transaction that decided it, so that nothing is lost when either side is down. */

export async function tellControlPlane(
  change: Change,
  node: NodeTable,
  row: MaintenanceTable,
  kind: 'drain' | 'uncordon',
  nowMs: number,
): Promise<void> {
  const last = await change
    .selectFrom('outbox')
    .select('sequence')
    .where('node_id', '=', node.id)
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst();
  const sequence = (last?.sequence ?? 0) + 1;
  const certificate = await change
    .selectFrom('node_certificate')
    .select('fingerprint')
    .where('node_id', '=', node.id)
    .orderBy('not_after_ms', 'desc')
    .limit(1)
    .executeTakeFirst();
  const body = JSON.stringify({
    node_id: node.name,
    node_uuid: node.id,
    certificate_fingerprint: certificate?.fingerprint ?? null,
    maintenance_id: row.id,
    epoch: row.epoch,
    target_version: row.target_version,
  });
  const fresh = { due_ms: 0, attempts: 0, delivered_ms: null, error: null };
  await change
    .insertInto('outbox')
    .values({ node_id: node.id, sequence, kind, body, created_ms: nowMs, ...fresh })
    .execute();
}
