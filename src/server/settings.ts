import { QxError } from '../errors.ts';
import { TOKEN_MIN_BYTES } from './admission.ts';
import { type FleetSettings, readFleetSettings } from './fleet-settings.ts';

/** What the server is told by its environment. One table for the reader and for --help. */
export const ENVIRONMENT = {
  RELEASE_DIR: { default: '/data/releases', means: 'folder of the releases' },
  LISTEN_ADDR: { default: '0.0.0.0:9000', means: 'address and port (127.0.0.1:9000 with --dev)' },
  PUBLISH_TOKEN: {
    default: '',
    means: 'token for publishing, at least 32 bytes; the server does not start without it',
  },
  TLS_CERT: { default: '', means: 'certificate chain, PEM; with TLS_KEY the server speaks HTTPS' },
  TLS_KEY: { default: '', means: 'key of the certificate, PEM' },
  TLS_NEXT_CERT: {
    default: '',
    means: 'certificate with the key that will follow TLS_KEY: hosts are told, and believe it from then on',
  },
  KEYRING: { default: '', means: 'keys whose releases are taken; only for a build that has none built in' },
  SIGNING_PRIVATE_KEY: {
    default: '',
    means: 'key file, such as one of qx-release keygen: sign bare manifests when they are published (default off)',
  },
  SIGNING_PUBLIC_KEY: { default: '', means: 'file to write the public half of that key to' },
  SIGNING_KEY_ID: { default: '', means: 'name of that key (default: as its file says, else quantix-release-key-1)' },
  KEY_DIR: { default: '', means: 'folder for generated keys (default: keys, beside RELEASE_DIR)' },
  STATE_DATABASE_URL: {
    default: '',
    means:
      'state of the fleet: sqlite:/PATH or postgres://USER@HOST/NAME (default: state/fleet.db, beside RELEASE_DIR)',
  },
  SERVER_SOCKET: {
    default: '',
    means: 'Unix socket for root (default /run/quantix/server.sock; with --dev: server.sock, beside RELEASE_DIR)',
  },
  NODE_CA_CERT: {
    default: '',
    means: 'authority that certifies hosts; made when missing (default: KEY_DIR/node-ca.crt)',
  },
  NODE_CA_KEY: { default: '', means: 'its key (default: KEY_DIR/node-ca.key)' },
  CONTROL_PLANE_TOKEN: {
    default: '',
    means: 'token of the control plane, at least 32 bytes; without it none is let in',
  },
  CONTROL_PLANE_URL: {
    default: '',
    means: 'what moves VMs: https://vdc.example.org/api; without it each host drains itself',
  },
  CONTROL_PLANE_SECRET: { default: '', means: 'signs what it is told, at least 32 bytes; goes with CONTROL_PLANE_URL' },
  DRAIN_TIMEOUT: { default: '60m', means: 'a drain that takes longer has failed' },
  GRANT_TTL: { default: '15m', means: 'a host that is empty and does not begin within this time is drained anew' },
  READ_NEEDS_CERTIFICATE: {
    default: 'false',
    means: 'true: reading releases needs the certificate of a host or the token of a viewer',
  },
} as const;

export type Environment = Readonly<Record<string, string | undefined>>;
type Name = keyof typeof ENVIRONMENT;

export interface Settings extends FleetSettings {
  /** Why the authority of the hosts is another one from now on; null: it has to be the one that it was. */
  readonly newAuthority: string | null;
  readonly isDev: boolean;
  /** With --dev on loopback, where nobody but a developer reaches the server. */
  readonly isPrivate: boolean;
  readonly releaseDirectory: string;
  readonly keyDirectory: string;
  readonly host: string;
  readonly port: number;
  /** Null only with --dev on loopback. */
  readonly token: string | null;
  readonly tls: { readonly certPath: string; readonly keyPath: string; readonly nextCertPath: string | null } | null;
  readonly keyringPath: string | null;
  readonly signing: {
    readonly privateKeyPath: string;
    readonly publicKeyPath: string | null;
    /** Null: as the file of the key says. */
    readonly keyId: string | null;
  } | null;
}

/** What the command line says. */
interface Started {
  readonly isDev: boolean;
  readonly newAuthority?: string | undefined;
}

/** @throws QxError CONFIG_INVALID | INSECURE_TOKEN, before anything is opened or listens */
export function readSettings(environment: Environment, options: Started): Settings {
  const get = (name: Name): string => environment[name] || ENVIRONMENT[name].default;
  const optional = (name: Name): string | null => environment[name] || null;
  const { isDev } = options;
  const address = environment.LISTEN_ADDR || (isDev ? '127.0.0.1:9000' : ENVIRONMENT.LISTEN_ADDR.default);
  const { host, port } = parseAddress(address);
  const releaseDirectory = absolute('RELEASE_DIR', get('RELEASE_DIR'));
  const keyDirectory = absolute('KEY_DIR', optional('KEY_DIR') ?? `${parentOf(releaseDirectory)}/keys`);
  if (`${keyDirectory}/`.startsWith(`${releaseDirectory}/`)) {
    throw new QxError('CONFIG_INVALID', 'KEY_DIR lies within RELEASE_DIR: keys would lie among what is served');
  }
  const [certPath, keyPath] = [optional('TLS_CERT'), optional('TLS_KEY')];
  if ((certPath === null) !== (keyPath === null)) {
    throw new QxError('CONFIG_INVALID', 'TLS_CERT and TLS_KEY must be set together');
  }
  const nextCertPath = optional('TLS_NEXT_CERT');
  if (certPath === null && nextCertPath !== null) {
    throw new QxError('CONFIG_INVALID', 'TLS_NEXT_CERT follows TLS_CERT, and that one is not set');
  }
  const tls = certPath !== null && keyPath !== null ? { certPath, keyPath, nextCertPath } : null;
  const isPrivate = isDev && isLoopback(host);
  const privateKeyPath = optional('SIGNING_PRIVATE_KEY');
  const place = { isDev, isPrivate, hasTls: tls !== null, releaseDirectory, keyDirectory };
  return {
    isDev,
    newAuthority: options.newAuthority ?? null,
    isPrivate,
    releaseDirectory,
    keyDirectory,
    host,
    port,
    token: checkToken(environment.PUBLISH_TOKEN, isPrivate),
    tls,
    ...readFleetSettings(optional, place),
    keyringPath: optional('KEYRING'),
    signing:
      privateKeyPath === null
        ? null
        : { privateKeyPath, publicKeyPath: optional('SIGNING_PUBLIC_KEY'), keyId: optional('SIGNING_KEY_ID') },
  };
}

function checkToken(token: string | undefined, isPrivate: boolean): string | null {
  if (token === undefined || token === '') {
    if (isPrivate) return null;
    throw insecure('PUBLISH_TOKEN is not set');
  }
  // With --dev on loopback a short one is the developer's own choice; it is demanded all the same.
  if (isPrivate) return token;
  if (token === 'dev-token') throw insecure('PUBLISH_TOKEN is the one that everybody knows');
  if (Buffer.byteLength(token) < TOKEN_MIN_BYTES)
    throw insecure(`PUBLISH_TOKEN is shorter than ${TOKEN_MIN_BYTES} bytes`);
  return token;
}

const insecure = (detail: string) =>
  new QxError('INSECURE_TOKEN', `${detail}; the server does not start`, {
    next: 'PUBLISH_TOKEN=$(openssl rand -hex 32), or --dev with LISTEN_ADDR on loopback',
  });

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127\.[0-9.]+$/.test(host);

function parseAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]*)):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new QxError('CONFIG_INVALID', `LISTEN_ADDR ${JSON.stringify(text)} is not like 0.0.0.0:9000 or [::]:9000`);
  }
  return { host: match[1] ?? (match[2] || '0.0.0.0'), port };
}

/** Relative paths would depend on where the server was started, and mean another folder after the next reboot. */
function absolute(name: Name, path: string): string {
  if (path.startsWith('/')) return path.replace(/\/+$/, '') || '/';
  throw new QxError('CONFIG_INVALID', `${name} must be an absolute path`);
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));
