import { QxError } from '../errors.ts';
import { TOKEN_MIN_BYTES } from './admission.ts';

/** What the environment says about the fleet; the table of names is in `settings.ts`. */
export interface FleetSettings {
  readonly stateUrl: string;
  readonly socket: {
    readonly path: string;
    /** Whether somebody named it, and so relies on it. */
    readonly isChosen: boolean;
  };
  readonly nodeAuthority: { readonly cert: string; readonly key: string };
  readonly controlPlaneToken: string | null;
  readonly readNeedsCertificate: boolean;
}

type Name =
  | 'STATE_DATABASE_URL'
  | 'SERVER_SOCKET'
  | 'NODE_CA_CERT'
  | 'NODE_CA_KEY'
  | 'CONTROL_PLANE_TOKEN'
  | 'READ_NEEDS_CERTIFICATE';

interface Place {
  readonly isDev: boolean;
  readonly isPrivate: boolean;
  readonly hasTls: boolean;
  readonly releaseDirectory: string;
  readonly keyDirectory: string;
}

const SYSTEM_SOCKET = '/run/quantix/server.sock';

/** @throws QxError CONFIG_INVALID | INSECURE_TOKEN */
export function readFleetSettings(optional: (name: Name) => string | null, place: Place): FleetSettings {
  const { isDev, releaseDirectory, keyDirectory } = place;
  const beside = releaseDirectory.slice(0, releaseDirectory.lastIndexOf('/'));
  const path = (name: Name, otherwise: string): string => checkPath(name, optional(name) ?? otherwise, place);
  const stateUrl = optional('STATE_DATABASE_URL') ?? `sqlite:${beside}/state/fleet.db`;
  if (stateUrl.startsWith('sqlite:')) checkPath('STATE_DATABASE_URL', stateUrl.slice('sqlite:'.length), place);
  return {
    stateUrl,
    socket: {
      path: path('SERVER_SOCKET', isDev ? `${beside}/server.sock` : SYSTEM_SOCKET),
      isChosen: optional('SERVER_SOCKET') !== null,
    },
    nodeAuthority: {
      cert: path('NODE_CA_CERT', `${keyDirectory}/node-ca.crt`),
      key: path('NODE_CA_KEY', `${keyDirectory}/node-ca.key`),
    },
    controlPlaneToken: checkToken(optional('CONTROL_PLANE_TOKEN')),
    readNeedsCertificate: checkReading(optional('READ_NEEDS_CERTIFICATE') ?? 'false', place),
  };
}

function checkPath(name: Name, path: string, { releaseDirectory }: Place): string {
  if (!path.startsWith('/')) throw new QxError('CONFIG_INVALID', `${name} must be an absolute path`);
  if (/\/(?:\.\.?)?(?:\/|$)/.test(path)) throw new QxError('CONFIG_INVALID', `${name} must be a plain path to a file`);
  if (!path.startsWith(`${releaseDirectory}/`)) return path;
  throw new QxError('CONFIG_INVALID', `${name} lies within RELEASE_DIR: it would lie among what is served`);
}

function checkToken(token: string | null): string | null {
  if (token === null || Buffer.byteLength(token) >= TOKEN_MIN_BYTES) return token;
  throw new QxError('INSECURE_TOKEN', `CONTROL_PLANE_TOKEN is shorter than ${TOKEN_MIN_BYTES} bytes`, {
    next: 'CONTROL_PLANE_TOKEN=$(openssl rand -hex 32), or leave it away',
  });
}

function checkReading(text: string, { hasTls, isPrivate }: Place): boolean {
  if (text !== 'true' && text !== 'false') {
    throw new QxError('CONFIG_INVALID', 'READ_NEEDS_CERTIFICATE is neither true nor false');
  }
  if (text === 'false' || hasTls || isPrivate) return text === 'true';
  throw new QxError(
    'CONFIG_INVALID',
    'READ_NEEDS_CERTIFICATE is true, but over plain HTTP nobody can show a certificate',
    {
      next: 'set TLS_CERT and TLS_KEY',
    },
  );
}
