import { QxError } from '../errors.ts';
import type { PAGE_ROUTES } from '../format/page-routes.ts';
import type { Handlers, Reply } from '../ports/serving.ts';
import type { Files } from '../ports.ts';

/** Hands out the Updates page: what the boot script chose, or where nothing was chosen what an update installed. */

const FOLDERS = ['/run/quantix/share/quantix-host-ui', '/data/share/quantix-host-ui'] as const;
const MAX_FILE_BYTES = 16 << 20;

const TYPES: Readonly<Record<string, string>> = {
  css: 'text/css; charset=utf-8',
  html: 'text/html; charset=utf-8',
  ico: 'image/x-icon',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json',
  png: 'image/png',
  svg: 'image/svg+xml',
  woff2: 'font/woff2',
};

/** Nothing but our own files: a name or a note of a release that found its way into the page still could not run. */
const HEADERS = {
  'content-security-policy': [
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  // The page is replaced as a whole by an update; a mix of old and new files would not work.
  'cache-control': 'no-cache',
};

export const pageHandlers = (files: Files): Handlers<typeof PAGE_ROUTES> => ({
  page: () => serve(files, 'index.html'),
  pageFile: ({ params }) => serve(files, params.file),
  pageAsset: ({ params }) => serve(files, `assets/${params.file}`),
});

async function serve(files: Files, name: string): Promise<Reply<unknown>> {
  for (const folder of FOLDERS) {
    if ((await files.info(`${folder}/index.html`))?.kind !== 'file') continue;
    const path = `${folder}/${name}`;
    const bytes = (await files.info(path))?.kind === 'file' ? await files.read(path, MAX_FILE_BYTES) : null;
    if (bytes === null) return { refused: new QxError('NOT_FOUND', `the Updates page has no file ${name}`) };
    return {
      bytes,
      type: TYPES[name.slice(name.lastIndexOf('.') + 1)] ?? 'application/octet-stream',
      headers: HEADERS,
    };
  }
  return { refused: new QxError('NOT_FOUND', 'no Updates page is installed on this host') };
}
