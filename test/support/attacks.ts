import { expect } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import { check } from '../../src/agent/check.ts';
import { download } from '../../src/agent/download.ts';
import type { Host } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import type { InstallRequest } from '../../src/core/plan.ts';
import { asQxError } from '../../src/errors.ts';
import type { AuditEvent } from '../../src/format/audit.ts';
import { signedBytes } from '../../src/format/detached.ts';
import type { Json } from '../../src/format/json.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import type { TestHost } from './agent-host.ts';
import { bootState, installedBytes, journalOf } from './agent-machine.ts';
import type { Release } from './agent-releases.ts';
import { bytesOf, edited } from './documents.ts';
import { testKey } from './keys.ts';
import { snapshot } from './snapshot.ts';

/**
 * An attack runs against the journeys of a whole host. What each must leave behind is the same: a code for the caller, one
 * event with that code in an unbroken audit log, and the host as it was.
 */

/** Names that lead somewhere else, hide something, or look like another. */
export const EVIL_NAMES: readonly string[] = [
  ...['..', 'a/../b', '/abs', 'a%2f..%2f', 'a\0b', 'CON', '-rf', '.hidden', 'a\nb', ''],
  ...['a\u202eb', 'a\u200bb', '\u0430bc', 'a'.repeat(256)],
];

/** The code that a journey was refused or failed with; null when it went through. */
export async function codeOf(act: () => Promise<unknown>): Promise<string | null> {
  try {
    const result = await act();
    const isRefusal = typeof result === 'object' && result !== null && 'kind' in result && result.kind === 'refusal';
    return isRefusal && 'code' in result ? String(result.code) : null;
  } catch (error) {
    return asQxError(error).code;
  }
}

/** What a begun update writes besides the host itself: its own records, and downloads that may be gone on with. */
const BEGUN = [
  'quantix/ab-update-state.json',
  'quantix/limiquantix/history.json',
  'quantix/limiquantix/baseline.json',
  'data/updates',
];

const treeOf = async (host: TestHost, except: readonly string[]): Promise<Readonly<Record<string, string>>> =>
  Object.fromEntries(
    Object.entries(await snapshot(host.root)).filter(
      ([path]) => !except.some((left) => path === left || path.startsWith(`${left}/`)),
    ),
  );

/** Answers the one event. `except` names what may be other than before. */
export async function expectRefusal(
  host: TestHost,
  code: string,
  act: () => Promise<unknown>,
  except: readonly string[] = [],
): Promise<AuditEvent | undefined> {
  const [before, known] = [await treeOf(host, except), (await readAudit(host.files)).events.length];
  expect(await codeOf(act)).toBe(code);
  expect(await treeOf(host, except)).toEqual(before);
  const { events, verdict } = await readAudit(host.files);
  expect(verdict).toMatchObject({ ok: true });
  const refusals = events.slice(known).filter((event) => event.code !== undefined);
  expect(refusals.map((event) => [event.event, event.code])).toEqual([[expect.any(String), code]]);
  return refusals[0];
}

/** A release that is not trusted, or not wanted: by whichever journey, nothing is begun. */
export async function expectUntrusted(host: TestHost, code: string, request: InstallRequest = {}): Promise<void> {
  if (Object.keys(request).length === 0) await expectRefusal(host, code, () => check(host, {}, { known: null }));
  await expectRefusal(host, code, () => download(host, request, {}));
  await expectRefusal(host, code, () => install(host, request, {}));
  expect(await journalOf(host.root)).toBeNull();
  expect([host.services.restarts, host.outcomes]).toEqual([[], []]);
}

/** A release that is trusted, and that fails while it is brought in: it is begun, given up, and the host is as before. */
export async function expectGivenUp(
  host: TestHost,
  code: string,
  { ports = {}, except = [] }: { readonly ports?: Partial<Host>; readonly except?: readonly string[] } = {},
): Promise<AuditEvent | undefined> {
  const had = await installedBytes(host.root);
  const attacked = () => install({ ...host, ...ports }, {}, {});
  const event = await expectRefusal(host, code, attacked, [...BEGUN, ...except]);
  expect(event).toMatchObject({ event: 'update_finished', fields: { result: 'failed' } });
  expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', pending: false, error: { code } });
  expect(host.outcomes.at(-1)).toMatchObject({ result: 'failed', code });
  expect(await installedBytes(host.root)).toEqual(had);
  expect((await bootState(host.root)).state).toMatchObject({ order: ['A', 'B'], A: { ok: true }, trial: '' });
  return event;
}

/** How much more memory this process has at most while it acts. */
export async function memoryGrowth(act: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage().rss;
  const peak = { bytes: before };
  const timer = setInterval(() => {
    peak.bytes = Math.max(peak.bytes, process.memoryUsage().rss);
  }, 2);
  await act().finally(() => clearInterval(timer));
  return peak.bytes - before;
}

/** A good signature over whatever this is, also over what `qx-release` would refuse to sign. */
export async function signedAnyway(manifest: unknown, label = 'release'): Promise<Uint8Array> {
  const { signer, keyId } = await testKey(label);
  const signature = (await signer.sign(signedBytes(manifest as Json))).toBase64();
  const around = { key_id: keyId, signed_at: '2026-11-01T00:00:00Z', algorithm: 'ed25519' };
  return bytesOf(JSON.stringify({ manifest, signature, ...around }));
}

/** The release with another manifest, signed again by the key that hosts trust. */
export const resigned = async (release: Release, fields: object): Promise<Release> => {
  const manifest = { ...release.manifest, ...fields } as Manifest;
  return { ...release, manifest, envelope: await signedAnyway(manifest) };
};

/** The release in an envelope whose fields somebody changed; `undefined` takes one away. */
export const enveloped = (release: Release, fields: { readonly [name: string]: unknown }): Release => ({
  ...release,
  envelope: edited(release.envelope, (envelope) => void Object.assign(envelope, fields)),
});
