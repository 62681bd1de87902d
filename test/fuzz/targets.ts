import type { Target } from './target.ts';
import { archives } from './targets/archive.ts';
import { documents } from './targets/documents.ts';
import { host } from './targets/host.ts';
import { http } from './targets/http.ts';
import { records } from './targets/records.ts';

/** Every decoder that reads what somebody else may have written. */
export const targets: readonly Target[] = [...documents, ...records, ...host, ...archives, ...http];
