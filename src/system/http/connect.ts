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
  { ca, pins, pinOnly, client }: TlsIdentity & { readonly ca?: string },
  timeout: number,
): buildConnector.connector {
  const connect = buildConnector({
    timeout,
    ...ONE_CHUNK_AHEAD,
    // With pins it is looked at below.
    rejectUnauthorized: pins === undefined,
    // One that is taken up again shows no certificate.
    ...(pins === undefined ? {} : { maxCachedSessions: 0 }),
    ...(ca === undefined ? {} : { ca }),
    ...(client === undefined ? {} : { cert: client.certificate, key: client.key }),
  });
  if (pins === undefined) return connect;
  return (options, done) =>
    connect(options, (...[error, socket]) => {
      if (error !== null) return done(error, null);
      const fault = socket instanceof TLSSocket ? faultOf(socket, pins, pinOnly === true) : null;
      if (fault === null) return done(null, socket);
      socket.destroy();
      done(new QxError('SERVER_KEY_WRONG', `${options.hostname} is not believed: ${fault}`), null);
    });
}

function faultOf(socket: TLSSocket, pins: readonly string[], pinOnly: boolean): string | null {
  const key = socket.getPeerX509Certificate()?.publicKey.export({ type: 'spki', format: 'der' });
  if (key !== undefined && pins.includes(createHash('sha256').update(key).digest('base64url'))) return null;
  if (pinOnly) return 'its key is not the one that the join string names';
  return socket.authorized ? null : `${socket.authorizationError}, and its key is none that the fleet has told`;
}
