import { QxError } from '../../errors.ts';

/** Reads a stream of chunks of any size in pieces of the size that is asked for. */
export class ByteReader {
  private readonly source: AsyncIterator<Uint8Array>;
  private rest: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.source = source[Symbol.asyncIterator]();
  }

  /** At most `maxBytes`, at least one; null at the end. */
  async some(maxBytes: number): Promise<Uint8Array | null> {
    while (this.rest.length === 0) {
      const { value, done } = await this.source.next();
      if (done === true) return null;
      this.rest = value;
    }
    const piece = this.rest.subarray(0, maxBytes);
    this.rest = this.rest.subarray(piece.length);
    return piece;
  }

  async exactly(sizeBytes: number): Promise<Buffer> {
    const block = Buffer.alloc(sizeBytes);
    let filled = 0;
    for await (const piece of this.pieces(sizeBytes)) {
      block.set(piece, filled);
      filled += piece.length;
    }
    return block;
  }

  /** Exactly this many bytes, as they come. */
  async *pieces(sizeBytes: number): AsyncGenerator<Uint8Array> {
    for (let left = sizeBytes; left > 0; ) {
      const piece = await this.some(left);
      if (piece === null) throw new QxError('ARCHIVE_MALFORMED', `archive ends ${left} bytes too early`);
      left -= piece.length;
      yield piece;
    }
  }
}
