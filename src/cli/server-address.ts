import { QxError } from '../errors.ts';

/** What somebody says a server is reached at, and shows it. */

/** @throws QxError USAGE */
export function serverAddress(text: string): URL {
  const url = URL.parse(text);
  const isPlain = url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.username === '';
  if (!isPlain) throw new QxError('USAGE', '--server has to be an address such as https://updates.example.org:9000');
  return url;
}

const LOOPBACK = /^(?:localhost|127\.[0-9.]+|\[::1\])$/;

/** Whoever listens on the way could use a token that is sent there. */
export const isUnprotected = ({ protocol, hostname }: URL): boolean => protocol === 'http:' && !LOOPBACK.test(hostname);

/** It would end the header, or never have been meant. @throws QxError USAGE */
export function checkToken(token: string): void {
  if (!/^[\x21-\x7e]+$/.test(token)) throw new QxError('USAGE', 'the token has characters that no token has');
}
