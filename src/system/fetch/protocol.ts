import { asciiLine } from '../../format/text.ts';
import type { HttpRequest } from '../../ports.ts';
import type { HttpOptions } from '../http.ts';

/**
 * How the agent and the process that fetches for it talk. The order is one line of JSON on its standard input, which stays
 * open: when it closes, the agent is gone. The body comes out of standard output as it is, and a third pipe says in lines of
 * JSON what it is worth: `ready`, `head`, then `end` or `error`. A body without an `end` that counts as many bytes is none.
 */

/** The agent may be started by a file that an update has just replaced: two versions must not guess at each other. */
export const FORMAT = 4;
export const CONTROL_FD = 3;
export const MAX_LINE_BYTES = 64 << 10;
export const MAX_HEADERS = 256;
const MAX_HEADER_VALUE = 8 << 10;
export const MAX_DETAIL = 500;

/** Nothing that steers a terminal or a log: a header of anything else is not handed on. */
export const HEADER_NAME = "^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$";
export const HEADER_VALUE = `^[\\x20-\\x7e\\t]{0,${MAX_HEADER_VALUE}}$`;

export interface Order {
  readonly format: typeof FORMAT;
  readonly url: string;
  /** With a body it is a POST. */
  readonly request: Omit<HttpRequest, 'signal'> & { readonly body?: string };
  readonly options: HttpOptions;
}

export const printable = (text: string): string => asciiLine(text, MAX_DETAIL);
