import { Readable } from 'node:stream';
import type { Agent, Dispatcher } from 'undici';
import type { Body } from './bounded-body.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  readonly body: Body;
}

/**
 * Sends one request and answers once the head is there. undici's own stream throws away what it holds when a connection
 * breaks; this body hands on every byte that reached the process, and only then throws what ended it.
 */
export function answerOf(agent: Agent, request: Dispatcher.DispatchOptions, signal: AbortSignal): Promise<Answer> {
  const state: { controller?: Dispatcher.DispatchController; error?: Error } = {};
  const chunks = new Readable({ read: () => state.controller?.resume() });
  const abort = (): void => state.controller?.abort(signal.reason);
  const body: Body = {
    async *[Symbol.asyncIterator]() {
      yield* chunks;
      if (state.error !== undefined) throw state.error;
    },
    destroy: () => {
      chunks.destroy();
      abort();
    },
  };
  const ended = (): void => {
    signal.removeEventListener('abort', abort);
    chunks.push(null);
  };
  return new Promise((resolve, reject) => {
    agent.dispatch(request, {
      onRequestStart: (controller) => {
        state.controller = controller;
        signal.addEventListener('abort', abort);
        if (signal.aborted) abort();
      },
      onResponseStart: (_controller, status, headers) => {
        if (status >= 200) resolve({ status, headers, body });
      },
      onResponseData: (controller, chunk) => {
        if (!chunks.push(chunk)) controller.pause();
      },
      onResponseEnd: ended,
      onResponseError: (_controller, error) => {
        state.error = error;
        ended();
        reject(error);
      },
    });
  });
}
