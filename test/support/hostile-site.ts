import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { onTestFinished } from 'vitest';
import type { WaitLimits } from '../../src/delivery/source.ts';
import type { Http } from '../../src/ports.ts';
import { undiciHttp } from '../../src/system/http.ts';
import type { Bench } from './agent-bench.ts';
import type { TestHost } from './agent-host.ts';
import type { Release } from './agent-releases.ts';
import { zst } from './archive-yard.ts';
import { resigned } from './attacks.ts';
import { type Answer, type BadServer, badServer, serve } from './bad-server.ts';
import { artifactOf } from './keys.ts';
import { tar } from './tar-maker.ts';

/** A release behind a real socket, and a host that asks for it with the real client. */

export interface Lies {
  /** Instead of the envelope. */
  readonly envelope?: Answer;
  /** Instead of the artifact: the first request gets the first, and so on; the last one stays. */
  readonly artifact?: readonly Answer[];
}

/** Until the test is over; `limits` are what it waits for at most, instead of the minutes of a real host. */
export function realHttp(limits: Partial<WaitLimits> = {}): Http {
  const http = undiciHttp();
  onTestFinished(() => http.close());
  return {
    get: (url, request) => http.get(url, { ...request, limits: { ...request.limits, ...limits } }),
  };
}

export interface Attacked {
  readonly host: TestHost;
  readonly server: BadServer;
}

export async function attackedHost(
  bench: Bench,
  release: Release,
  { envelope, artifact }: Lies,
  limits: Partial<WaitLimits> = {},
): Promise<Attacked> {
  const lies = [...(artifact ?? [])];
  const server = await badServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://server');
    if (/\/manifest(?:\/signed)?$/.test(pathname)) return (envelope ?? serve(release.envelope))(request, response);
    const lie = lies.length > 1 ? lies.shift() : lies[0];
    const bytes = release.artifacts.get(pathname.slice(pathname.lastIndexOf('/') + 1)) ?? new Uint8Array();
    return (lie ?? serve(bytes))(request, response);
  });
  const host = await bench.host([], { settings: [`server_url: ${server.url}`] });
  return { host: { ...host, http: realHttp(limits) }, server };
}

/** A release of one component with these bytes for its archive, whatever they are. */
export async function releaseOf(bench: Bench, archive: Uint8Array, fields: object = {}): Promise<Release> {
  const release = await bench.release('2.0.0', { components: { 'qx-console': '2.0.0' } });
  const [component] = release.manifest.components;
  const components = [{ ...component, ...artifactOf('qx-console.tar.zst', archive), ...fields }];
  return { ...(await resigned(release, { components })), artifacts: new Map([['qx-console.tar.zst', archive]]) };
}

/** An archive that the host would take, of about this size. */
export const largeArchive = (sizeBytes = 300_000): Uint8Array =>
  zst(tar({ name: 'qx-console', body: randomBytes(sizeBytes), mode: 0o755 }));

/** Host and port of every connection that the client tried to make, from now until the test is over. */
export function connections(): readonly string[] {
  const tried: string[] = [];
  const note = (message: unknown): void => {
    const { connectParams } = message as { connectParams: { host: string } };
    tried.push(connectParams.host);
  };
  subscribe('undici:client:beforeConnect', note);
  onTestFinished(() => void unsubscribe('undici:client:beforeConnect', note));
  return tried;
}
