import { QxError } from '../../errors.ts';
import { CONTROL_PLANE_ROUTES, PLAN_MAX_BYTES, PLAN_WITHIN_MS, type PlanRequest } from '../../format/control-plane.ts';
import { ControlPlanePlan } from '../../format/drain-plan.ts';
import { checkShape } from '../../format/schema.ts';
import { oneLine } from '../../format/text.ts';
import type { HttpLimits, HttpResponse } from '../../ports.ts';
import { type ControlPlane, postSigned } from './signed.ts';

/** Asks the control plane what it would do, while somebody waits for the answer. */

interface Asked {
  /** Names this question. */
  readonly id: string;
  readonly withinMs?: number;
  readonly signal: AbortSignal;
}

/** Its names and reasons are each one line that may be shown. @throws QxError when there is no answer, or none that makes sense */
export async function askDrainPlan(
  plane: ControlPlane,
  host: PlanRequest,
  { id, signal, withinMs = PLAN_WITHIN_MS }: Asked,
): Promise<ControlPlanePlan> {
  const deadline = AbortSignal.timeout(withinMs);
  const message = { id, node_id: host.node_id, body: JSON.stringify(host), limits: limitsWithin(withinMs) };
  try {
    const answer = await postSigned(plane, CONTROL_PLANE_ROUTES.drainPlan, {
      ...message,
      signal: AbortSignal.any([signal, deadline]),
    });
    return presentable(expectSense(host, await readPlan(answer)));
  } catch (error) {
    if (!deadline.aborted) throw error;
    throw new QxError('SERVER_UNREACHABLE', `no complete answer within ${withinMs / 1000} s`, { cause: error });
  }
}

const limitsWithin = (ms: number): HttpLimits => ({
  maxBytes: PLAN_MAX_BYTES,
  connectTimeoutMs: ms,
  headersTimeoutMs: ms,
  minBytesPerWindow: 1,
  windowMs: ms,
});

async function readPlan({ status, body }: HttpResponse): Promise<ControlPlanePlan> {
  if (status !== 200) {
    await body[Symbol.asyncIterator]().return?.();
    const next = status === 404 ? ': it makes no plans, or does not know this host' : '';
    throw new QxError('SERVER_REFUSED', `it answered ${status}${next}`);
  }
  const text = await textOf(body);
  return checkShape(ControlPlanePlan, parse(text), 'its answer makes no sense', 'SERVER_REFUSED');
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of body) text += decoder.decode(chunk, { stream: true });
  return text + decoder.decode();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new QxError('SERVER_REFUSED', 'its answer is no JSON', { cause: error });
  }
}

/** What a schema cannot say. @throws QxError SERVER_REFUSED */
function expectSense({ node_id, node_uuid }: PlanRequest, plan: ControlPlanePlan): ControlPlanePlan {
  if (new Set(plan.vms.map(({ vm }) => vm)).size < plan.vms.length)
    throw new QxError('SERVER_REFUSED', 'its answer makes no sense: one VM is in it twice');
  if (plan.vms.some(({ target_node }) => target_node === node_id || target_node === node_uuid))
    throw new QxError('SERVER_REFUSED', 'its answer makes no sense: a VM would move to where it is');
  return plan;
}

/** Whoever may name a VM may put anything into its name, and from here it comes to terminals and pages. */
const presentable = ({ vms, blocks }: ControlPlanePlan): ControlPlanePlan => ({
  vms: vms.map((one) => lines(one)),
  blocks: blocks.map((one) => lines(one)),
});

const lines = <T extends Readonly<Record<string, string | null>>>(texts: T): T =>
  Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, text && oneLine(text)])) as T;
