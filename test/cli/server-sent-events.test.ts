import { expect, test } from 'vitest';
import { serverSentEvents } from '../../src/cli/server-sent-events.ts';
import { refusal } from '../support/documents.ts';

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const collect = async (text: string, size: number) =>
  Array.fromAsync(serverSentEvents(pieces(new TextEncoder().encode(text), size)));

test.each([1, 2, 7, 1000])('events are the same in pieces of %i bytes', async (size) => {
  const text = ': still here\n\nevent: status\ndata: {"message":"größer"}\n\ndata: bare\n\nevent: cut off\ndata: {';
  expect(await collect(text, size)).toEqual([
    { type: 'status', data: '{"message":"größer"}' },
    { type: 'message', data: 'bare' },
  ]);
});

test('an event without an end does not fill the memory', async () => {
  expect(await refusal(() => collect('data: x'.repeat(200_000), 65_536))).toBe('RESPONSE_TOO_LARGE');
});
