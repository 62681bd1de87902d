import { createHash, X509Certificate } from 'node:crypto';
import { QxError } from '../errors.ts';
import { isServerHost } from '../format/invitation.ts';
import type { NodeAuthority } from '../ports/authority.ts';
import type { Clock, Files, Log } from '../ports.ts';
import type { Fleet, Reach } from './membership.ts';
import { beginNewAuthority, expectOneAuthority } from './nodes/one-authority.ts';
import type { Settings } from './settings.ts';
import { type StateClock, stateClock } from './state-clock.ts';
import { prepareStore, type Store } from './store.ts';

/** What the server knows the fleet by: its state, and the authority of its hosts. */

export interface FleetPorts {
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
  openStore(url: string): Promise<Store>;
  /** Makes its files where there are none. */
  openAuthority(paths: Settings['nodeAuthority']): Promise<NodeAuthority>;
}

interface OpenFleet {
  readonly fleet: Fleet;
  /** Keeps the time of `fleet` until the signal. */
  readonly keepTime: StateClock['run'];
  readonly transport: 'tls' | 'plain' | 'dev';
  /** PEM: what callers are asked for in the handshake. */
  readonly clientCa: Uint8Array | null;
  /** Answers what makes join strings name its key. @throws QxError CONFIG_INVALID */
  tlsRenewed(tls: NonNullable<Tls>): () => void;
}

type Tls = { readonly cert: Uint8Array; readonly nextCert: Uint8Array | null } | null;

export async function openFleet(settings: Settings, ports: FleetPorts, tls: Tls): Promise<OpenFleet> {
  const { log } = ports;
  const transport = tls !== null ? 'tls' : settings.isPrivate ? 'dev' : 'plain';
  const now = { reach: tls === null ? plainReach(settings) : certifiedReach(settings, tls) };
  const store = await openState(settings, ports);
  try {
    const { clock, run: keepTime } = await stateClock(store, ports);
    // Nobody can prove anything over plain HTTP, so nothing is certified for it either.
    const authority = transport === 'plain' ? null : await ports.openAuthority(settings.nodeAuthority);
    const { newAuthority: reason } = settings;
    if (authority !== null && reason !== null)
      await beginNewAuthority({ store, log }, authority, { reason, nowMs: clock.nowMs() });
    if (authority !== null) await expectOneAuthority(store.db, authority, clock.nowMs());
    if (transport === 'dev') {
      log.warn('development_nodes', { detail: 'whoever reaches this server may name a host by x-qx-dev-node' });
    }
    const membership = authority && {
      authority,
      get reach() {
        return now.reach;
      },
    };
    const clientCa = transport === 'tls' && authority ? new TextEncoder().encode(authority.certificate) : null;
    const tlsRenewed = (fresh: NonNullable<Tls>) => {
      const reach = certifiedReach(settings, fresh);
      return () => void Object.assign(now, { reach });
    };
    return { fleet: { store, membership, clock, log }, keepTime, transport, clientCa, tlsRenewed };
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function openState({ stateUrl }: Settings, { openStore, files }: FleetPorts): Promise<Store> {
  const path = stateUrl.startsWith('sqlite:') ? stateUrl.slice('sqlite:'.length) : null;
  const held: { unlock?: (() => Promise<void>) | null } = {};
  try {
    // SQLite is for one server: what two of them decide at once would rest on waiting for its lock.
    if (path !== null) held.unlock = await lockState(files, path);
    const store = await openStore(stateUrl);
    const close = async () => {
      await store.close();
      await held.unlock?.();
    };
    await prepareStore(store).catch((error: unknown) => close().then(() => Promise.reject(error)));
    return { ...store, close };
  } catch (error) {
    await held.unlock?.();
    if (error instanceof QxError) throw error;
    throw new QxError('STATE_UNREACHABLE', `the state database cannot be opened: ${(error as Error).message}`, {
      next: 'see STATE_DATABASE_URL: a folder that the server may write to, or a PostgreSQL that runs',
      cause: error,
    });
  }
}

async function lockState(files: Files, path: string): Promise<() => Promise<void>> {
  await files.makeDirectory(path.slice(0, path.lastIndexOf('/')), 0o700);
  const unlock = await files.lock(`${path}.lock`);
  if (unlock !== null) return unlock;
  throw new QxError('BUSY', `another server already keeps its state in ${path}`, {
    next: 'give each server a STATE_DATABASE_URL of its own, or all of them one PostgreSQL',
  });
}

const plainReach = ({ host, port }: Settings): Reach => ({
  pin: null,
  nextPin: null,
  host: port === 0 ? null : `${host.includes(':') ? `[${host}]` : host}:${port}`,
});

/** The first of the names in its certificate that a host could use. */
function certifiedReach({ port }: Settings, { cert, nextCert }: NonNullable<Tls>): Reach {
  const certificate = readCertificate('TLS_CERT', cert);
  const nextPin = nextCert === null ? null : pinOf(readCertificate('TLS_NEXT_CERT', nextCert));
  const names = [...(certificate.subjectAltName ?? '').matchAll(/(?:DNS|IP Address):([^,\s"]+)/g)]
    .map(([, name = '']) =>
      name.includes(':') ? (URL.parse(`https://[${name}]`)?.hostname ?? '') : name.toLowerCase(),
    )
    .map((name) => `${name}:${port}`);
  const host = port === 0 ? null : (names.find(isServerHost) ?? null);
  return { pin: pinOf(certificate), nextPin, host };
}

const pinOf = ({ publicKey }: X509Certificate): string =>
  createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');

function readCertificate(name: string, cert: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(cert);
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `${name} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}
