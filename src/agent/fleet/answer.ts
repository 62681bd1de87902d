import { asciiLine } from '../../format/text.ts';
import type { HttpLimits, HttpResponse } from '../../ports.ts';

/** What servers that give out places answer: little, soon, and in words that reach logs and terminals. */

export const ANSWER_WITHIN: Omit<HttpLimits, 'maxBytes'> = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 20_000,
  minBytesPerWindow: 1,
  windowMs: 10_000,
};

export async function textOf({ body }: HttpResponse): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Empty where it says nothing. */
export const wordsOf = (said: unknown, maxLength = 500): string =>
  typeof said === 'string' ? asciiLine(said, maxLength) : '';
