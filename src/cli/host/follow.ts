import { setTimeout as sleep } from 'node:timers/promises';
import { isCode, QxError } from '../../errors.ts';
import type { ProgressResponse } from '../../format/agent-documents.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import { type AgentClient, knownCode } from '../client.ts';
import type { VerbContext } from './verb.ts';

/**
 * Watches an update in the agent until it ends. An update may replace the agent itself: then its successor is waited for,
 * which knows the outcome from the journal.
 */

export interface End {
  readonly kind: 'complete' | 'reboot_required' | 'downloaded';
  readonly message: string;
}

const POLL_MS = 200;
const SLOWEST_POLL_MS = 2000;
const AGENT_BACK_WITHIN_MS = 60_000;
/** A successor that has nothing to do for so long has found nothing in the journal. */
const KNOWS_NOTHING_POLLS = 10;

type Follower = Pick<VerbContext, 'progress' | 'note'> & { agent: Pick<AgentClient, 'call'> };

/**
 * `fetching` is the word for how the bytes come. `signal` is listened to from before the order: an interrupt right after it would
 * otherwise end this without a word.
 * @throws QxError the reason why it was not installed; CANCELLED when interrupted, which does not stop the update
 */
export async function follow(context: Follower, signal: AbortSignal, fetching = 'downloading'): Promise<End> {
  for (;;) {
    const askedMs = performance.now();
    const progress = await askProgress(context, signal);
    const tookMs = performance.now() - askedMs;
    // Gone, or back already and knowing of nothing that runs: another process than the one that took the order.
    if (progress === null || (progress.result === undefined && !progress.busy)) return outcome(context, signal);
    if (progress.result !== undefined) {
      context.progress.end();
      return endOf(progress.result);
    }
    const { phase, name, doneBytes, totalBytes } = progress;
    const doing = phase === 'downloading' ? fetching : phase;
    context.progress.report({ label: `${doing} ${name}`, done: doneBytes, total: totalBytes });
    await pause(signal, pollAfter(tookMs));
  }
}

/** A machine that takes `tookMs` to answer has an update to carry out: a tenth of its time is for questions, within bounds. */
export const pollAfter = (tookMs: number): number => Math.min(Math.max(POLL_MS, tookMs * 10), SLOWEST_POLL_MS);

async function askProgress({ agent }: Follower, signal: AbortSignal): Promise<ProgressResponse | null> {
  try {
    return await agent.call(AGENT_ROUTES.progress, { signal });
  } catch (error) {
    if (signal.aborted) throw interrupted();
    if (isCode(error, 'AGENT_DOWN')) return null;
    throw error;
  }
}

const interrupted = (): QxError =>
  new QxError('CANCELLED', 'no longer following; it goes on in the agent', {
    next: 'qx-update status shows how, and qx-update cancel stops it',
  });

async function pause(signal: AbortSignal, ms = POLL_MS): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {
    throw interrupted();
  });
}

function endOf({ kind, version, refused }: NonNullable<ProgressResponse['result']>): End {
  if (kind === 'downloaded') return { kind, message: `Version ${version} is downloaded and verified.` };
  if (kind === 'complete') return { kind, message: `Updated to version ${version}.` };
  if (kind === 'reboot_required') return { kind, message: `Version ${version} is installed; a reboot finishes it.` };
  const { code, detail, next } = refused ?? { code: 'INTERNAL', detail: 'the agent does not say why' };
  throw new QxError(knownCode(code), detail, next === undefined ? {} : { next });
}

const notBegun = (): QxError =>
  new QxError('INTERRUPTED', 'the agent was started anew before the update had begun; nothing was changed', {
    next: 'qx-update apply',
  });

/** What the successor of the agent that we followed makes of it, once it is there and has converged. */
async function outcome(context: Follower, signal: AbortSignal): Promise<End> {
  context.progress.end();
  const deadlineMs = performance.now() + AGENT_BACK_WITHIN_MS;
  let idlePolls = 0;
  let downPolls = 0;
  while (performance.now() < deadlineMs) {
    const status = await context.agent.call(AGENT_ROUTES.status, { signal }).catch((error: unknown) => {
      if (signal.aborted) throw interrupted();
      if (isCode(error, 'AGENT_DOWN')) return null;
      throw error;
    });
    if (status === null && downPolls++ === 0) context.note('The agent restarts; waiting for it.');
    const message = status?.message ?? '';
    if (status?.status === 'complete' || status?.status === 'reboot_required') {
      return { kind: status.status, message: `${message}.` };
    }
    if (status?.status === 'error') throw new QxError('INTERRUPTED', message);
    idlePolls = status?.status === 'idle' || status?.status === 'available' ? idlePolls + 1 : 0;
    if (idlePolls === KNOWS_NOTHING_POLLS) throw notBegun();
    await pause(signal);
  }
  throw new QxError('AGENT_DOWN', `the agent did not come back within ${AGENT_BACK_WITHIN_MS / 1000} s`, {
    next: 'rc-service quantix-node status, then qx-update status',
  });
}
