import { QxError } from '../errors.ts';
import { durationMs } from '../format/config.ts';
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
  /** Null: each host drains itself. */
  readonly controlPlane: { readonly url: string; readonly secret: string } | null;
  readonly drainTimeoutMs: number;
  readonly grantTtlMs: number;
  readonly readNeedsCertificate: boolean;
}

type Name =
  | 'STATE_DATABASE_URL'
  | 'SERVER_SOCKET'
  | 'NODE_CA_CERT'
  | 'NODE_CA_KEY'
  | 'CONTROL_PLANE_TOKEN'
  | 'CONTROL_PLANE_URL'
  | 'CONTROL_PLANE_SECRET'
  | 'DRAIN_TIMEOUT'
  | 'GRANT_TTL'
  | 'READ_NEEDS_CERTIFICATE';

interface Place {
  readonly isDev: boolean;
  readonly isPrivate: boolean;
  readonly hasTls: boolean;
  readonly releaseDirectory: string;
  readonly keyDirectory: string;
}

/** Where root finds the server of a machine. */
export const SERVER_SOCKET = '/run/quantix/server.sock';

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
      path: path('SERVER_SOCKET', isDev ? `${beside}/server.sock` : SERVER_SOCKET),
      isChosen: optional('SERVER_SOCKET') !== null,
    },
    nodeAuthority: {
      cert: path('NODE_CA_CERT', `${keyDirectory}/node-ca.crt`),
      key: path('NODE_CA_KEY', `${keyDirectory}/node-ca.key`),
    },
    controlPlaneToken: checkSecret('CONTROL_PLANE_TOKEN', optional('CONTROL_PLANE_TOKEN')),
    controlPlane: controlPlaneOf(optional),
    drainTimeoutMs: duration('DRAIN_TIMEOUT', optional('DRAIN_TIMEOUT') ?? '60m'),
    grantTtlMs: duration('GRANT_TTL', optional('GRANT_TTL') ?? '15m'),
    readNeedsCertificate: checkReading(optional('READ_NEEDS_CERTIFICATE') ?? 'false', place),
  };
}

function checkPath(name: Name, path: string, { releaseDirectory }: Place): string {
  if (!path.startsWith('/')) throw new QxError('CONFIG_INVALID', `${name} must be an absolute path`);
  if (/\/(?:\.\.?)?(?:\/|$)/.test(path)) throw new QxError('CONFIG_INVALID', `${name} must be a plain path to a file`);
  if (!path.startsWith(`${releaseDirectory}/`)) return path;
  throw new QxError('CONFIG_INVALID', `${name} lies within RELEASE_DIR: it would lie among what is served`);
}

type SecretName = 'CONTROL_PLANE_TOKEN' | 'CONTROL_PLANE_SECRET';

function checkSecret(name: SecretName, secret: string | null): string | null {
  if (secret === null || Buffer.byteLength(secret) >= TOKEN_MIN_BYTES) return secret;
  throw new QxError('INSECURE_TOKEN', `${name} is shorter than ${TOKEN_MIN_BYTES} bytes`, {
    next: `${name}=$(openssl rand -hex 32), or leave it away`,
  });
}

/** Whoever takes the place of the control plane could keep hosts from being emptied, or pretend that they are. */
function controlPlaneOf(optional: (name: Name) => string | null): FleetSettings['controlPlane'] {
  const url = optional('CONTROL_PLANE_URL');
  const secret = checkSecret('CONTROL_PLANE_SECRET', optional('CONTROL_PLANE_SECRET'));
  if (url === null) return null;
  const { protocol, username, search, hash, href } = URL.parse(url) ?? {};
  if (!/^https?:$/.test(protocol ?? '') || username !== '' || search !== '' || hash !== '' || href === undefined) {
    throw new QxError('CONFIG_INVALID', 'CONTROL_PLANE_URL is not like https://vdc.example.org/api');
  }
  if (secret !== null && optional('CONTROL_PLANE_TOKEN') !== null) return { url: href.replace(/\/+$/, ''), secret };
  throw new QxError(
    'CONFIG_INVALID',
    'CONTROL_PLANE_URL needs CONTROL_PLANE_SECRET and CONTROL_PLANE_TOKEN beside it',
    {
      next: 'one signs what the control plane is told, with the other it reports back',
    },
  );
}

function duration(name: Name, text: string): number {
  try {
    return durationMs(text);
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `${name}: ${(error as Error).message}`, { cause: error });
  }
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
