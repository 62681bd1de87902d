import type { Static, TSchema } from 'typebox';
import { isCode, QxError } from '../errors.ts';
import { readJson } from './json.ts';
import { checkShape } from './schema.ts';
import { readableText } from './text.ts';

/** Documents that outlive an agent, and are read by older and newer ones: `format` says who can. Unknown fields are kept. */

/** @throws QxError STATE_TOO_NEW | STATE_INVALID, which says what follows when the file is put aside */
export function readVersioned<T extends TSchema>(
  bytes: Uint8Array,
  schema: T,
  path: string,
  consequence: string,
  verb?: string,
): Static<T> {
  try {
    const { value } = readJson(bytes, path, 'STATE_INVALID');
    refuseNewer(value, path);
    return checkShape(schema, value, path, 'STATE_INVALID');
  } catch (error) {
    if (!isCode(error, 'STATE_INVALID')) throw error;
    const next = `look at it, then, as root, ${verb ?? `mv ${path} ${path}.bad`}: ${consequence}`;
    throw new QxError('STATE_INVALID', error.message, { next, cause: error });
  }
}

function refuseNewer(value: unknown, path: string): void {
  const format = (value as { format?: unknown } | null)?.format;
  if (typeof format !== 'number' || format <= 1) return;
  throw new QxError('STATE_TOO_NEW', `${path} has format ${format}; this version of qx-node reads format 1`, {
    next: 'start the newer qx-node that wrote it, or roll back to the slot that it came with',
  });
}

/** What was written can be read again, whatever a server or a program put into an error message. */
export const writeDocument = (document: object): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(document, (_name, value) => readable(value), 2)}\n`);

const readable = (value: unknown): unknown => (typeof value === 'string' ? readableText(value) : value);
