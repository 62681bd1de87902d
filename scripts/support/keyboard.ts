import { EventEmitter, once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { plain } from './terminal.ts';

/** Who sits at the terminal of a machine, or what makes noise on the line to it. */

export type Typist = (keyboard: Keyboard) => Promise<void>;

export interface Keyboard {
  /** Settles when the line has room for more. */
  type(keys: string | Uint8Array): Promise<void>;
  /** Settles when the machine has printed this since the last time, or it is over. */
  printed(text: string): Promise<void>;
  /** What the machine has printed since the last time, as soon as there is any. */
  anything(): Promise<string>;
  readonly isOver: boolean;
}

export function keyboardOf(output: Readable, input: Writable, over: PromiseLike<unknown>): Keyboard {
  const state = { isOver: false, unread: '' };
  const news = new EventEmitter();
  output.on('data', (bytes: Buffer) => {
    state.unread += bytes.toString('latin1');
    news.emit('news');
  });
  over.then(() => {
    state.isOver = true;
    news.emit('news');
  });
  // Nobody reads the rest of it at the end.
  input.on('error', () => undefined);
  const printed = async (isEnough: () => boolean): Promise<string> => {
    while (!state.isOver && !isEnough()) await once(news, 'news');
    const { unread } = state;
    state.unread = '';
    return unread;
  };
  return {
    type: async (keys) => {
      const drained = (): Promise<unknown> => once(input, 'drain').catch(() => undefined);
      if (!input.write(keys)) await Promise.race([drained(), over]);
    },
    printed: async (text) => void (await printed(() => plain(state.unread).includes(text))),
    anything: () => printed(() => state.unread !== ''),
    get isOver() {
      return state.isOver;
    },
  };
}
