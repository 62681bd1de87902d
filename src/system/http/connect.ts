import { createHash } from 'node:crypto';
import { TLSSocket } from 'node:tls';
import { buildConnector } from 'undici';
import { QxError } from '../../errors.ts';
import type { TlsIdentity } from '../../ports.ts';

/** Which server a connection leads to is settled before the first byte of a request is sent. */

/**
 * Node stops reading from a connection that nobody takes bytes from: that it broke is then noticed behind the bytes that came
 * before, which would be thrown away otherwise. @types/node does not know this option of a socket.
 */
const ONE_CHUNK_AHEAD: object = { highWaterMark: 1 };

export function connectTo(
  { ca, pin, pinOnly, client }: TlsIdentity & { readonly ca?: string },
  timeout: number,
): buildConnector.connector {
  const connect = buildConnector({
    timeout,
    ...ONE_CHUNK_AHEAD,
    // With a pin it is looked at below.
    rejectUnauthorized: pin === undefined,
    // One that is taken up again shows no certificate.
    ...(pin === undefined ? {} : { maxCachedSessions: 0 }),
    ...(ca === undefined ? {} : { ca }),
    ...(client === undefined ? {} : { cert: client.certificate, key: client.key }),
  });
  if (pin === undefined) return connect;
  return (options, done) =>
    connect(options, (...[error, socket]) => {
      if (error !== null) return done(error, null);
      const fault = socket instanceof TLSSocket ? faultOf(socket, pin, pinOnly === true) : null;
      if (fault === null) return done(null, socket);
      socket.destroy();
      done(new QxError('SERVER_UNREACHABLE', `${options.hostname} is not believed: ${fault}`), null);
    });
}

function faultOf(socket: TLSSocket, pin: string, pinOnly: boolean): string | null {
  const key = socket.getPeerX509Certificate()?.publicKey.export({ type: 'spki', format: 'der' });
  if (key !== undefined && createHash('sha256').update(key).digest('base64url') === pin) return null;
  if (pinOnly) return 'its key is not the one that the join string names';
  return socket.authorized ? null : `${socket.authorizationError}, and its key is not the one of the join string`;
}
