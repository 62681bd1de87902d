import type { Refusal } from '../core/plan.ts';
import { ERRORS } from '../errors.ts';
import type { Audit } from '../ports/audit.ts';
import type { RefusedCall } from '../ports/serving.ts';
import type { Clock } from '../ports.ts';
import { actorOf } from './api.ts';

/**
 * Refused requests in the audit log. Anybody on the network can be refused as often as they like: from a certain number a minute
 * on they are only counted, so that a flood neither fills the disk nor pushes older events out.
 */

const WINDOW_MS = 60_000;
const KEPT_PER_WINDOW = 60;

/** What these answer with was recorded by the journey that found it out. */
const RECORDED_ELSEWHERE: ReadonlySet<string> = new Set(['check', 'plan']);

export function auditRefusals(audit: Audit, clock: Clock): (refused: RefusedCall) => void {
  const window = { startMs: Number.NEGATIVE_INFINITY, kept: 0, dropped: 0 };
  return ({ error, caller, route, isAnswer }) => {
    if (!isRefusal(error.code) || (isAnswer && RECORDED_ELSEWHERE.has(route ?? ''))) return;
    const nowMs = clock.monotonicMs();
    if (nowMs - window.startMs >= WINDOW_MS) {
      const { dropped } = window;
      Object.assign(window, { startMs: nowMs, kept: 0, dropped: 0 });
      if (dropped > 0) {
        void audit.record({
          event: 'request_refused',
          detail: 'more requests than are recorded one by one',
          fields: { dropped },
        });
      }
    }
    if (window.kept >= KEPT_PER_WINDOW) return void window.dropped++;
    window.kept++;
    const { code, message: detail } = error;
    // Refused, so nobody knows more of them than where they are.
    const actor = caller.via === 'unix' ? actorOf({ ...caller, certificate: null }) : caller.address;
    void audit.record({ event: 'request_refused', code, detail, actor, fields: { route } });
  };
}

/** A refusal that somebody got who works on the host itself, without its agent. */
export async function auditOwnRefusal(
  audit: Audit,
  refused: Refusal,
  by: { actor: string; verb: string },
): Promise<void> {
  const { code, detail } = refused;
  if (!isRefusal(code)) return;
  await audit.record({ event: 'request_refused', code, detail, actor: by.actor, fields: { verb: by.verb } });
}

/** Not what failed on our side, nor that there is nothing to do or nothing of that name. */
const isRefusal = (code: RefusedCall['error']['code']): boolean => {
  const { http, exit } = ERRORS[code];
  return http >= 400 && http < 499 && http !== 404 && exit !== 'nothing';
};
