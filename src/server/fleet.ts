import type { NODE_ROUTES } from '../format/fleet-routes.ts';
import type { Handlers } from '../ports/serving.ts';
import { actorOf } from './audit.ts';
import { createGuard } from './guard.ts';
import type { Fleet } from './membership.ts';
import { enrol } from './nodes/enrolment.ts';
import { invite, listInvites, withdrawInvite } from './nodes/invitations.ts';
import { renew } from './nodes/renewal.ts';
import { approve, listNodes, resolve, revoke } from './nodes.ts';
import { addOperator, listOperators, revokeOperator } from './operators.ts';

/** A handler for each row of the route table. */
export function fleetHandlers(fleet: Fleet): Handlers<typeof NODE_ROUTES> {
  const guard = createGuard(fleet.clock);
  const secret = { 'cache-control': 'no-store' };
  return {
    enroll: ({ body, caller }) => enrol(fleet, guard, body, caller),
    renew: async ({ body, principal }) => ({ json: await renew(fleet, body, principal), headers: secret }),
    nodes: async () => ({ json: await listNodes(fleet) }),
    inviteNode: async ({ body, principal }) => ({
      json: await invite(fleet, body, actorOf(principal)),
      headers: secret,
    }),
    invites: async () => ({ json: await listInvites(fleet) }),
    withdrawInvite: async ({ params: { invite: id }, body, principal }) => ({
      json: await withdrawInvite(fleet, id, body.reason, actorOf(principal)),
    }),
    approveNode: async ({ params: { node }, body, principal }) => ({
      json: await approve(fleet, node, body.key_fingerprint, actorOf(principal)),
    }),
    revokeNode: async ({ params: { node }, body, principal }) => ({
      json: await revoke(fleet, node, body.reason, actorOf(principal)),
    }),
    resolveNode: async ({ params: { node }, body, principal }) => ({
      json: await resolve(fleet, node, body, actorOf(principal)),
    }),
    addOperator: async ({ body, principal }) => ({
      json: await addOperator(fleet, body, actorOf(principal)),
      headers: secret,
    }),
    operators: async () => ({ json: await listOperators(fleet.store.db) }),
    revokeOperator: async ({ params: { operator }, principal }) => ({
      json: await revokeOperator(fleet, operator, actorOf(principal)),
    }),
  };
}
