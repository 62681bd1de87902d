import { createHmac } from 'node:crypto';
import type { CONTROL_PLANE_ROUTES } from '../../format/control-plane.ts';
import { pathOf } from '../../format/route.ts';
import type { Clock, HttpLimits, HttpResponse, Post } from '../../ports.ts';

/** How a control plane is spoken to. */

export interface ControlPlane {
  readonly http: Post;
  /** Without a slash at its end. */
  readonly url: string;
  readonly secret: string;
  readonly clock: Clock;
}

interface Message {
  /** The same each time that the same thing is sent. */
  readonly id: string;
  readonly node_id: string;
  readonly body: string;
  readonly limits: HttpLimits;
  readonly signal?: AbortSignal;
}

/** @throws QxError as `Post` does */
export function postSigned(
  { http, url, secret, clock }: ControlPlane,
  route: (typeof CONTROL_PLANE_ROUTES)[keyof typeof CONTROL_PLANE_ROUTES],
  { id, node_id, ...rest }: Message,
): Promise<HttpResponse> {
  const headers = { 'content-type': 'application/json', ...signed(secret, id, rest.body, clock.nowMs()) };
  return http.post(url + pathOf(route, { node_id }, {}), { headers, ...rest });
}

/** As Standard Webhooks has it. */
export function signed(secret: string, id: string, body: string, nowMs: number): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1000));
  const signature = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}
