import { chooseKeyring } from '../delivery/keyring.ts';
import { QxError } from '../errors.ts';
import { AUDIT_ROUTES } from '../format/audit-routes.ts';
import { BUDGET_ROUTES } from '../format/budget-routes.ts';
import { NODE_ROUTES } from '../format/fleet-routes.ts';
import { FLEETLOCK_ROUTES } from '../format/fleetlock.ts';
import type { Keyring } from '../format/keyring.ts';
import { MAINTENANCE_ROUTES } from '../format/maintenance-routes.ts';
import { ORDER_ROUTES } from '../format/order-routes.ts';
import { PLACE_ROUTES } from '../format/place-routes.ts';
import type { Who } from '../format/route.ts';
import { SERVER_ROUTES } from '../format/routes.ts';
import type { Admit, Handlers, Ranges } from '../ports/serving.ts';
import type { Files, Post, Random } from '../ports.ts';
import { createAdmission } from './admission.ts';
import { serverHandlers } from './api.ts';
import { type Store as ReleaseStore, recoverStore } from './artifacts.ts';
import { auditHandlers } from './audit/api.ts';
import { runSealing } from './audit/seals.ts';
import { createExclusive } from './exclusive.ts';
import { fleetHandlers } from './fleet.ts';
import { createIdentity } from './identity.ts';
import { type FleetPorts, openFleet } from './open-fleet.ts';
import { openMaintenance } from './open-maintenance.ts';
import type { Settings } from './settings.ts';
import { createSigner, type ReleaseSigner, trusting } from './signing.ts';

export interface ServerPorts extends FleetPorts {
  readonly files: Files;
  readonly ranges: Ranges;
  readonly random: Random;
  /** To the control plane. */
  readonly http: Post;
  /** What this executable was built with; null when it runs from source. */
  readonly bakedKeyring: Uint8Array | null;
}

const ROUTES = {
  ...SERVER_ROUTES,
  ...NODE_ROUTES,
  ...MAINTENANCE_ROUTES,
  ...BUDGET_ROUTES,
  ...PLACE_ROUTES,
  ...ORDER_ROUTES,
  ...AUDIT_ROUTES,
  ...FLEETLOCK_ROUTES,
} as const;

/** PEM. */
interface ServerTls {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** With the key that it will have next. */
  readonly nextCert: Uint8Array | null;
  readonly clientCa?: Uint8Array;
}

export interface OpenServer {
  readonly routes: typeof ROUTES;
  readonly handlers: Handlers<typeof ROUTES>;
  readonly admit: Admit;
  readonly documentFor: Who;
  readonly tls: ServerTls | null;
  /** The files of the certificate, read again. @throws QxError CONFIG_INVALID */
  loadTls(): Promise<ServerTls>;
  /** Answers what makes join strings name their key, once they are in use. @throws QxError CONFIG_INVALID */
  tlsRenewed(tls: ServerTls): () => void;
  /** What goes on beside the requests, until the signal; it has ended before `close`. */
  run(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

const FILE_MAX_BYTES = 1 << 20;
/** Of a file that arrives before its manifest. Far above any image, far below what a manifest may announce. */
const MAX_ARTIFACT_BYTES = 64 * 2 ** 30;

/** Everything that can refuse to start does so here, before anybody can connect. */
export async function openServer(settings: Settings, ports: ServerPorts): Promise<OpenServer> {
  const { files, log, clock } = ports;
  const store: ReleaseStore = { files, log, directory: settings.releaseDirectory };
  const tls = settings.tls && (await readTls(files, settings.tls));
  const signer = await openSigner(settings, ports);
  const keyring = trusting(await trustedKeys(settings, ports), signer);
  if (keyring.keys.length === 0) log.warn('no_key_trusted', { detail: 'every publish will be refused' });
  const isNew = (await files.info(store.directory)) === null;
  // Another server on the same folder would take what this one is just receiving for the leftovers of a dead one.
  const unlock = await files.lock(`${store.directory}/.lock`);
  if (unlock === null)
    throw new QxError('BUSY', `another server already serves ${store.directory}`, {
      next: `stop the other one (${store.directory}/.lock names its process), or give this one a RELEASE_DIR of its own`,
    });
  if (isNew)
    log.warn('release_directory_made', { detail: `RELEASE_DIR ${store.directory} was not there and is empty now` });
  await recoverStore(store);
  const { fleet, keepTime, transport, clientCa, tlsRenewed } = await openFleet(settings, ports, tls).catch(
    async (error: unknown) => {
      await unlock();
      throw error;
    },
  );
  const exclusive = createExclusive();
  const publisher = {
    store,
    random: ports.random,
    clock,
    exclusive,
    keyring,
    signer,
    maxArtifactBytes: MAX_ARTIFACT_BYTES,
  };
  const keyDirectory = settings.isDev ? settings.keyDirectory : null;
  const { controlPlaneToken, readNeedsCertificate } = settings;
  const admitPublisher = createAdmission(settings.token, clock, log);
  const maintenance = openMaintenance(settings, { ...ports, store: fleet.store, clock: fleet.clock });
  const identify = createIdentity({ db: fleet.store.db, transport, controlPlaneToken, clock: fleet.clock, log });
  return {
    routes: readNeedsCertificate ? readByMembers(ROUTES) : ROUTES,
    handlers: {
      ...serverHandlers({
        publisher,
        ranges: ports.ranges,
        clock,
        keyDirectory,
        databaseAnswers: () => fleet.store.db.selectFrom('gate').select('id').execute(),
      }),
      ...fleetHandlers(fleet),
      ...maintenance.handlers,
      ...auditHandlers(fleet),
    },
    admit: (who, caller) => (who === 'open' || who === 'publisher' ? admitPublisher : identify)(who, caller),
    documentFor: readNeedsCertificate ? READERS : 'open',
    tls: tls && { ...tls, ...(clientCa && { clientCa }) },
    loadTls: async () => {
      if (settings.tls === null) throw new QxError('CONFIG_INVALID', 'TLS_CERT is not set');
      return { ...(await readTls(files, settings.tls)), ...(clientCa && { clientCa }) };
    },
    tlsRenewed,
    run: async (signal) =>
      void (await Promise.all([keepTime(signal), maintenance.run(signal), runSealing(fleet, signal)])),
    close: async () => {
      await fleet.store.close();
      await unlock();
    },
  };
}

const READERS: Who = 'node-or-viewer';

/** The same table, in which whoever may be watching the server is all that is still open to everybody. */
const readByMembers = (routes: typeof ROUTES): typeof ROUTES =>
  Object.fromEntries(
    Object.entries(routes).map(([name, route]) => [
      name,
      route.who === 'open' && name !== 'health' && name !== 'ready' ? { ...route, who: READERS } : route,
    ]),
  ) as unknown as typeof ROUTES;

const readTls = async (files: Files, { certPath, keyPath, nextCertPath }: NonNullable<Settings['tls']>) => ({
  cert: await readFile(files, 'TLS_CERT', certPath),
  key: await readFile(files, 'TLS_KEY', keyPath),
  nextCert: nextCertPath === null ? null : await readFile(files, 'TLS_NEXT_CERT', nextCertPath),
});

async function readFile(files: Files, name: string, path: string): Promise<Uint8Array> {
  const bytes = await files.read(path, FILE_MAX_BYTES);
  if (bytes === null) throw new QxError('CONFIG_INVALID', `${name}: there is no file ${path}`);
  return bytes;
}

/** @throws QxError CONFIG_INVALID when KEYRING is set for a release build: its operator believes something that is not so */
async function trustedKeys({ keyringPath: path }: Settings, { files, bakedKeyring }: ServerPorts): Promise<Keyring> {
  const configured = path === null ? null : () => readFile(files, 'KEYRING', path);
  const { keyring, from } = await chooseKeyring(bakedKeyring, configured);
  if (path === null || from === 'configuration') return keyring;
  throw new QxError('CONFIG_INVALID', 'KEYRING is set, but this build trusts only the keys that were built in');
}

async function openSigner({ signing }: Settings, { files, clock, log }: ServerPorts): Promise<ReleaseSigner | null> {
  if (signing === null) return null;
  const { privateKeyPath, publicKeyPath, keyId } = signing;
  const signer = await createSigner(await readFile(files, 'SIGNING_PRIVATE_KEY', privateKeyPath), keyId, clock);
  if (((await files.info(privateKeyPath))?.mode ?? 0) & 0o077) log.warn('signing_key_readable', { privateKeyPath });
  if (publicKeyPath !== null) await files.writeAtomic(publicKeyPath, Buffer.from(`${signer.publicKey}\n`));
  log.info('signing_here', { keyId: signer.keyId });
  return signer;
}
