import { type Code, ERRORS, QxError } from '../errors.ts';
import { printable } from './render.ts';

/** What the update server says when it refuses. */

const CODE_OF_STATUS: Readonly<Record<number, Code>> = {
  400: 'BAD_REQUEST',
  401: 'TOKEN_REFUSED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  409: 'REFUSED_OVERWRITE',
  507: 'NO_SPACE',
};

/** The server's own code and words where it gave them; the exit code follows from the code as for our own refusals. */
export function refusalOf(status: number, body: Uint8Array, server: string): QxError {
  const { code, detail, error, next } = problemIn(body);
  const own = typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as Code) : undefined;
  const byStatus = CODE_OF_STATUS[status] ?? (status >= 500 ? 'SERVER_ERROR' : 'SERVER_REFUSED');
  const said = [detail, error].find((text) => typeof text === 'string') ?? `HTTP status ${status}`;
  const hint = typeof next === 'string' ? { next: printable(next) } : {};
  return new QxError(own ?? byStatus, `${server} answered: ${printable(String(said)).slice(0, 2000)}`, hint);
}

function problemIn(body: Uint8Array): { code?: unknown; detail?: unknown; error?: unknown; next?: unknown } {
  try {
    return Object(JSON.parse(new TextDecoder().decode(body)));
  } catch {
    return {};
  }
}
