import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { Agent, request as send, errors as undiciErrors } from 'undici';
import { QxError } from '../errors.ts';
import type { Upload, UploadPart } from '../ports/upload.ts';

const CHUNK_BYTES = 256 * 1024;

/** Uploads over undici, a connection for each: what a release tool does once needs no pool. */
export const undiciUpload = (): Upload => ({
  post: async (url, { headers, parts, limits, onSent, signal }) => {
    const form = formOf(parts);
    // Each of these could otherwise be decided by an environment variable.
    const connect = { timeout: limits.connectTimeoutMs, rejectUnauthorized: true };
    const agent = new Agent({ allowH2: false, useMilo: false, connect });
    try {
      const response = await send(url, {
        method: 'POST',
        dispatcher: agent,
        headers: { ...headers, 'content-type': form.contentType, 'content-length': String(form.sizeBytes) },
        body: Readable.from(form.bytes((sent) => onSent?.(sent, form.sizeBytes))),
        // undici winds this up again with every write, so it bounds a stall and not the whole upload.
        headersTimeout: limits.stallTimeoutMs,
        bodyTimeout: limits.stallTimeoutMs,
        ...(signal === undefined ? {} : { signal }),
      });
      return { status: response.statusCode, body: await readAll(response.body, limits.maxResponseBytes) };
    } catch (error) {
      throw asRefusal(error, url, signal);
    } finally {
      await agent.destroy();
    }
  },
});

interface Form {
  readonly contentType: string;
  readonly sizeBytes: number;
  bytes(onSent: (sentBytes: number) => void): AsyncGenerator<Uint8Array>;
}

function formOf(parts: readonly UploadPart[]): Form {
  const boundary = `qx-${randomBytes(18).toString('hex')}`;
  const heads = parts.map((part) => headOf(part, boundary));
  const end = Buffer.from(`--${boundary}--\r\n`);
  const sizeBytes = parts.reduce((sum, part, i) => sum + (heads[i]?.length ?? 0) + part.sizeBytes + 2, end.length);
  async function* bytes(onSent: (sentBytes: number) => void): AsyncGenerator<Uint8Array> {
    const progress = { sent: 0 };
    for await (const piece of pieces(parts, heads, end)) {
      yield piece;
      progress.sent += piece.length;
      onSent(progress.sent);
    }
  }
  return { contentType: `multipart/form-data; boundary=${boundary}`, sizeBytes, bytes };
}

function headOf({ name, fileName }: UploadPart, boundary: string): Buffer {
  // Both names are checked against their grammars long before this; a quote here would end the header's value.
  if (/["\r\n\\]/.test(name + fileName)) throw new QxError('BAD_REQUEST', `${JSON.stringify(fileName)} cannot be sent`);
  return Buffer.from(
    `--${boundary}\r\ncontent-disposition: form-data; name="${name}"; filename="${fileName}"\r\n` +
      'content-type: application/octet-stream\r\n\r\n',
  );
}

async function* pieces(
  parts: readonly UploadPart[],
  heads: readonly Buffer[],
  end: Buffer,
): AsyncGenerator<Uint8Array> {
  for (const [i, part] of parts.entries()) {
    yield heads[i] ?? end;
    yield* contentOf(part);
    yield Buffer.from('\r\n');
  }
  yield end;
}

/** Exactly `sizeBytes`: the length was announced before, and a file that shrinks while it is sent must not hang the server. */
async function* contentOf({ content, sizeBytes, fileName }: UploadPart): AsyncGenerator<Uint8Array> {
  if (content instanceof Uint8Array) {
    yield content;
    return;
  }
  if (sizeBytes === 0) return;
  const seen = { sizeBytes: 0 };
  const pieces: AsyncIterable<Uint8Array> =
    'read' in content
      ? content.read()
      : createReadStream(content.path, { highWaterMark: CHUNK_BYTES, end: sizeBytes - 1 });
  for await (const piece of pieces) {
    seen.sizeBytes += piece.length;
    yield piece;
  }
  if (seen.sizeBytes !== sizeBytes) throw new QxError('SIZE_MISMATCH', `${fileName} became shorter while it was sent`);
}

async function readAll(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const read = { sizeBytes: 0 };
  for await (const chunk of body) {
    read.sizeBytes += chunk.length;
    if (read.sizeBytes > maxBytes) throw new QxError('RESPONSE_TOO_LARGE', 'the answer to the upload has no end');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function asRefusal(error: unknown, url: string, signal: AbortSignal | undefined): Error {
  if (error instanceof QxError) return error;
  if (signal?.aborted === true) return new QxError('CANCELLED', 'the upload was cancelled', { cause: error });
  const { code, message } = error as NodeJS.ErrnoException;
  const isOurs = code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR' || code === 'EIO';
  if (isOurs) return error as Error;
  const isStall = error instanceof undiciErrors.HeadersTimeoutError || error instanceof undiciErrors.BodyTimeoutError;
  const reason = isStall ? 'it stopped taking bytes' : message || String(code);
  return new QxError('SERVER_UNREACHABLE', `no answer from ${new URL(url).origin}: ${reason}`, {
    next: 'try again: what was published already is not sent twice by mistake',
    cause: error,
  });
}
