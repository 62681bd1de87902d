import { chooseKeyring } from '../delivery/keyring.ts';
import { QxError } from '../errors.ts';
import type { Keyring } from '../format/keyring.ts';
import type { SERVER_ROUTES } from '../format/routes.ts';
import type { Admit, Handlers, Ranges } from '../ports/serving.ts';
import type { Clock, Files, Log, Random } from '../ports.ts';
import { createAdmission } from './admission.ts';
import { serverHandlers } from './api.ts';
import { recoverStore, type Store } from './artifacts.ts';
import { createExclusive } from './exclusive.ts';
import type { Settings } from './settings.ts';
import { createSigner, type ReleaseSigner, trusting } from './signing.ts';

export interface ServerPorts {
  readonly files: Files;
  readonly ranges: Ranges;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** What this executable was built with; null when it runs from source. */
  readonly bakedKeyring: Uint8Array | null;
}

export interface OpenServer {
  readonly handlers: Handlers<typeof SERVER_ROUTES>;
  readonly admit: Admit;
  readonly tls: { readonly cert: Uint8Array; readonly key: Uint8Array } | null;
  close(): Promise<void>;
}

const FILE_MAX_BYTES = 1 << 20;
/** Of a file that arrives before its manifest. Far above any image, far below what a manifest may announce. */
const MAX_ARTIFACT_BYTES = 64 * 2 ** 30;

/** Everything that can refuse to start does so here, before anybody can connect. */
export async function openServer(settings: Settings, ports: ServerPorts): Promise<OpenServer> {
  const { files, log, clock } = ports;
  const store: Store = { files, log, directory: settings.releaseDirectory };
  const tls = settings.tls && {
    cert: await readFile(files, 'TLS_CERT', settings.tls.certPath),
    key: await readFile(files, 'TLS_KEY', settings.tls.keyPath),
  };
  const signer = await openSigner(settings, ports);
  const keyring = trusting(await trustedKeys(settings, ports), signer);
  if (keyring.keys.length === 0) log.warn('no_key_trusted', { detail: 'every publish will be refused' });
  const isNew = (await files.info(store.directory)) === null;
  // Another server on the same folder would take what this one is just receiving for the leftovers of a dead one.
  const unlock = await files.lock(`${store.directory}/.lock`);
  if (unlock === null) throw new QxError('BUSY', `another server already serves ${store.directory}`);
  if (isNew)
    log.warn('release_directory_made', { detail: `RELEASE_DIR ${store.directory} was not there and is empty now` });
  await recoverStore(store);
  const exclusive = createExclusive();
  const publisher = { store, random: ports.random, exclusive, keyring, signer, maxArtifactBytes: MAX_ARTIFACT_BYTES };
  const keyDirectory = settings.isDev ? settings.keyDirectory : null;
  return {
    handlers: serverHandlers({ publisher, ranges: ports.ranges, clock, keyDirectory }),
    admit: createAdmission(settings.token, clock, log),
    tls,
    close: unlock,
  };
}

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
  log.info('signing_here', { keyId });
  return signer;
}
