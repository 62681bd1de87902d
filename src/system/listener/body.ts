import multipart from '@fastify/multipart';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { QxError } from '../../errors.ts';
import { parseStrict } from '../../format/json.ts';
import type { Route } from '../../format/route.ts';
import type { Part } from '../../ports/serving.ts';

export const JSON_BODY_MAX_BYTES = 64 * 1024;
const MAX_PARTS = 520;

/** JSON by the strict reader, and multipart as a stream; every other media type is refused. */
export function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const read = (bytes: Buffer, done: (error: Error | null, body?: unknown) => void): void => {
    try {
      done(null, bytes.length === 0 ? undefined : parseStrict(bytes).value);
    } catch (error) {
      done(
        new QxError('BAD_REQUEST', `the body is not acceptable JSON: ${(error as Error).message}`, { cause: error }),
      );
    }
  };
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes: Buffer, done) =>
    read(bytes, done),
  );
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'buffer' },
    (request, bytes: Buffer, done) => {
      const { dialect } = request.routeOptions.config as Pick<Route, 'dialect'>;
      if (dialect === 'fleetlock') return read(bytes, done);
      done(new QxError('MEDIA_TYPE_UNSUPPORTED', 'the body of this request must be JSON'));
    },
  );
  app.register(multipart, {
    // A part without a file name would be held in memory, and one that calls itself JSON would be parsed and lose its bytes.
    isPartAFile: () => true,
    throwFileSizeLimit: false,
    // The handler counts: it alone knows how large each part may be.
    limits: {
      fileSize: Number.POSITIVE_INFINITY,
      files: MAX_PARTS,
      parts: MAX_PARTS,
      headerPairs: 32,
      fieldNameSize: 256,
    },
  });
}

export const isMultipart = (request: FastifyRequest): boolean =>
  /^multipart\//i.test(request.headers['content-type'] ?? '');

/** The parts of a multipart request, one at a time; empty for any other. */
export async function* partsOf(request: FastifyRequest): AsyncGenerator<Part> {
  if (!isMultipart(request)) return;
  // RFC 2046 allows 70; the parser takes longer ones for a fault of ours.
  if (/boundary="?[^";]{71}/i.test(request.headers['content-type'] ?? '')) {
    throw new QxError('BAD_REQUEST', 'the boundary of a multipart body has at most 70 characters');
  }
  for await (const part of request.parts()) {
    if (part.type !== 'file') continue;
    yield { name: part.fieldname, bytes: part.file };
    // The next part only begins once this one has been read.
    if (!part.file.readableEnded) part.file.resume();
  }
}
