import { Type } from 'typebox';
import type { RouteTable } from './route.ts';

/** The Updates page of a host: plain files, in one folder and one folder `assets` below it. */

const params = Type.Object({ file: Type.String({ pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]*$', maxLength: 128 }) });
const file = { method: 'GET', who: 'open', content: 'file', response: Type.Unknown() } as const;

export const PAGE_ROUTES = {
  page: { ...file, path: '/', summary: 'The Updates page' },
  pageFile: { ...file, path: '/{file}', params, summary: 'A file of the Updates page' },
  pageAsset: { ...file, path: '/assets/{file}', params, summary: 'A script, style or picture of the Updates page' },
} as const satisfies RouteTable;
