import { QxError } from '../errors.ts';

/**
 * What an operator carries to a new host: the one line `qx1.ID.SECRET.PIN.HOST` has the right to enrol once, the address of the
 * server, and the key by which the host knows that it speaks to that server before it trusts anybody.
 */

export interface Invitation {
  readonly id: string;
  readonly secret: string;
  /** Base64url SHA-256 of the public key (SPKI) in the server's certificate; null for a development server without TLS. */
  readonly pin: string | null;
  /** `updates.example.org:9000`, `192.0.2.7`, `[2001:db8::1]:9000`. */
  readonly host: string;
}

const INVITE_ID = '[a-z0-9]{6,32}';
/** 26 of 36 letters are 134 bits. */
const INVITE_SECRET = '[a-z0-9]{26,64}';
/** What a host sends of it: the id tells which secret is meant. */
export const INVITE_PATTERN = `^${INVITE_ID}\\.${INVITE_SECRET}$`;
/** In the place of the pin. Only an address of the same machine may go with it. */
const NO_PIN = 'dev';
const PIN = '[A-Za-z0-9_-]{43}';
const JOIN = new RegExp(`^qx1\\.(${INVITE_ID})\\.(${INVITE_SECRET})\\.(${PIN}|${NO_PIN})\\.(.+)$`);

const MAX_HOST_LENGTH = 253 + 6;
const MAX_LENGTH = 512;
const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const HOST = new RegExp(`^(?:(${LABEL}(?:\\.${LABEL})*)|(\\[[0-9a-f:.]{2,45}\\]))(?::([1-9][0-9]{0,4}))?$`);
const LOOPBACK = /^(?:localhost|127\.[0-9.]+|\[::1\])(?::|$)/;

/** A name or address of a server with or without a port, in the one spelling that a join string has. */
export function isServerHost(text: string): boolean {
  const match = text.length <= MAX_HOST_LENGTH ? HOST.exec(text) : null;
  if (match === null || Number(match[3] ?? 0) > 65535) return false;
  // Of whatever could be an address, only what a client takes for the same one.
  return URL.parse(`https://${text}`)?.hostname === (match[1] ?? match[2]);
}

export const isLoopbackHost = (host: string): boolean => LOOPBACK.test(host);

/** @throws QxError BAD_REQUEST for what no host could read again */
export function writeInvitation({ id, secret, pin, host }: Invitation): string {
  const text = `qx1.${id}.${secret}.${pin ?? NO_PIN}.${host}`;
  readInvitation(text);
  return text;
}

/** @throws QxError BAD_REQUEST, whose message never holds any of the text */
export function readInvitation(text: string): Invitation {
  const match = text.length <= MAX_LENGTH ? JOIN.exec(text) : null;
  const [, id = '', secret = '', pin = '', host = ''] = match ?? [];
  if (match === null) throw refused('it is not like qx1.ID.SECRET.PIN.HOST');
  if (!isServerHost(host)) throw refused('it names no host that could be a server');
  if (pin === NO_PIN && !isLoopbackHost(host)) throw refused('without a pin it may only lead to this machine itself');
  return { id, secret, pin: pin === NO_PIN ? null : pin, host };
}

const refused = (why: string) =>
  new QxError('BAD_REQUEST', `this is no join string: ${why}`, {
    next: 'copy the whole line that qx-fleet node invite printed',
  });
