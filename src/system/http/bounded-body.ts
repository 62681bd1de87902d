import { AssertionError } from 'node:assert';
import { asQxError, QxError } from '../../errors.ts';
import type { HttpLimits } from '../../ports.ts';

export interface Body extends AsyncIterable<Uint8Array> {
  /** Whatever sends is told to stop; who reads it gets nothing more. */
  destroy(): void;
}

interface Transfer {
  readonly limits: HttpLimits;
  /** Names the server in what is refused. */
  readonly origin: string;
  readonly signal: AbortSignal | undefined;
}

/** The body, cut off when it is too long or too slow. Only time spent waiting for the server counts against it. */
export class BoundedBody implements AsyncIterableIterator<Uint8Array> {
  private totalBytes = 0;
  private windowBytes = 0;
  private waitedMs = 0;
  private readonly chunks: AsyncIterator<Uint8Array>;
  private readonly body: Body;
  private readonly limits: HttpLimits;
  private readonly origin: string;
  private readonly signal: AbortSignal | undefined;

  constructor(body: Body, { limits, origin, signal }: Transfer) {
    this.body = body;
    this.limits = limits;
    this.origin = origin;
    this.signal = signal;
    this.chunks = body[Symbol.asyncIterator]();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    try {
      const { done, value } = await this.timed();
      if (done === true) return { done, value: undefined };
      this.count(value);
      return { value };
    } catch (error) {
      this.body.destroy();
      throw asRefusal(error, this.origin, this.signal);
    }
  }

  /** Leaves the rest unread: the connection is of no use any more and is closed. */
  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.body.destroy();
    return { done: true, value: undefined };
  }

  private async timed(): Promise<IteratorResult<Uint8Array, unknown>> {
    const startMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.stalled()), this.leftMs());
    });
    try {
      return await Promise.race([this.chunks.next(), stalled]);
    } finally {
      clearTimeout(timer);
      this.waitedMs += performance.now() - startMs;
    }
  }

  /** A window that has its bytes already lets the next one begin, all of it spent waiting. */
  private leftMs(): number {
    const { windowMs, minBytesPerWindow } = this.limits;
    const hasEnough = this.windowBytes >= minBytesPerWindow;
    return windowMs - this.waitedMs + (hasEnough ? windowMs : 0);
  }

  private count(chunk: Uint8Array): void {
    const { maxBytes, windowMs } = this.limits;
    this.totalBytes += chunk.length;
    this.windowBytes += chunk.length;
    if (this.totalBytes > maxBytes) {
      throw new QxError('RESPONSE_TOO_LARGE', `${this.origin} sent more than the expected ${maxBytes} bytes`);
    }
    // With too few bytes the timer has the last word: it fires before a window can be full.
    if (this.waitedMs < windowMs) return;
    this.waitedMs = 0;
    this.windowBytes = 0;
  }

  private stalled(): QxError {
    const { minBytesPerWindow, windowMs } = this.limits;
    return new QxError(
      'DOWNLOAD_STALLED',
      `${this.origin} sent less than ${minBytesPerWindow} bytes in ${windowMs} ms`,
    );
  }
}

export function asRefusal(error: unknown, origin: string, signal: AbortSignal | undefined): QxError {
  if (signal?.aborted === true) return new QxError('CANCELLED', `the transfer from ${origin} was cancelled`);
  if (error instanceof QxError) return error;
  return new QxError('SERVER_UNREACHABLE', `${origin} cannot be reached: ${reasonOf(error)}`, { cause: error });
}

/** Connecting to several addresses fails with one error without a message that holds the others. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join('; ');
  return isAssertion(error) ? 'its answer makes no sense' : asQxError(error).message;
}

/**
 * undici asserts what no server ought to do, such as switching protocols unasked, and quotes its own source. Node parses that
 * source for the quotation, and complains of its syntax instead where it is that of the executable.
 */
const isAssertion = (error: unknown): boolean => error instanceof AssertionError || error instanceof SyntaxError;
