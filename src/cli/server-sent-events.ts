import { QxError } from '../errors.ts';

/** One event of a text/event-stream, as far as our agent uses that format: a type and one line of data. */
interface ServerSentEvent {
  readonly type: string;
  readonly data: string;
}

const MAX_EVENT_CHARACTERS = 1 << 20;

export async function* serverSentEvents(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of bytes) {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n');
    rest = blocks.pop() ?? '';
    if (rest.length > MAX_EVENT_CHARACTERS) throw new QxError('RESPONSE_TOO_LARGE', 'the agent sent an endless event');
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      // A block without data is a comment that says that somebody is still there.
      if (data !== undefined) yield { type: /^event: (.*)$/m.exec(block)?.[1] ?? 'message', data };
    }
  }
}
