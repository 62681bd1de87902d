import { type Static, Type } from 'typebox';
import { QxError } from '../../errors.ts';
import { parseStrict } from '../../format/json.ts';
import { checkShape } from '../../format/schema.ts';
import { HEADER_NAME, HEADER_VALUE, MAX_DETAIL, MAX_HEADERS, MAX_LINE_BYTES } from './protocol.ts';

/** What the process that fetches may say. It reads the network's bytes, so nothing that it says is believed to be in order. */

/** What may be wrong with a server and its envelopes; any other code would say something about the agent or its keys. */
const CODES = [
  'BAD_REQUEST',
  'SERVER_UNREACHABLE',
  'SERVER_KEY_WRONG',
  'RESPONSE_TOO_LARGE',
  'DOWNLOAD_STALLED',
  'ENVELOPE_MALFORMED',
  'UNSIGNED',
  'ALGORITHM_UNSUPPORTED',
  'SIGNATURE_MALFORMED',
  'MANIFEST_INVALID',
] as const;

const strict = { additionalProperties: false } as const;

const Saying = Type.Union([
  Type.Object({ say: Type.Literal('ready') }, strict),
  Type.Object(
    {
      say: Type.Literal('head'),
      status: Type.Integer({ minimum: 100, maximum: 599 }),
      headers: Type.Record(Type.String({ pattern: HEADER_NAME }), Type.String({ pattern: HEADER_VALUE }), {
        ...strict,
        maxProperties: MAX_HEADERS,
      }),
    },
    strict,
  ),
  Type.Object({ say: Type.Literal('end'), bytes: Type.Integer({ minimum: 0 }) }, strict),
  Type.Object(
    {
      say: Type.Literal('error'),
      code: Type.Union(CODES.map((code) => Type.Literal(code))),
      detail: Type.String({ pattern: `^[\\x20-\\x7e]{0,${MAX_DETAIL}}$` }),
    },
    strict,
  ),
]);

export type Saying = Static<typeof Saying>;

/** The server's fault as far as anybody can tell: the next one is asked. */
export const outOfOrder = (detail: string): QxError =>
  new QxError('SERVER_ERROR', `the process that fetches is not in order: ${detail}`);

/** One line after the other, until the pipe closes. @throws QxError SERVER_ERROR for anything that is not a saying */
export async function* readSayings(pipe: AsyncIterable<Uint8Array>): AsyncGenerator<Saying, undefined> {
  let held: Uint8Array = new Uint8Array();
  for await (const bytes of pipe) {
    held = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
    for (let end = held.indexOf(0x0a); end >= 0; end = held.indexOf(0x0a)) {
      yield readSaying(held.subarray(0, end));
      held = held.subarray(end + 1);
    }
    if (held.length > MAX_LINE_BYTES) throw outOfOrder('a line without end');
  }
  if (held.length > 0) throw outOfOrder('half a line');
}

function readSaying(line: Uint8Array): Saying {
  try {
    const { value } = parseStrict(line, { maxBytes: MAX_LINE_BYTES, maxDepth: 3 });
    return checkShape(Saying, value, 'what it says', 'SERVER_ERROR');
  } catch {
    // Neither the line nor what is wrong with it goes into a log: somebody else chose the words.
    throw outOfOrder('it said something that it may not say');
  }
}
