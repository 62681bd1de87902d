import pino from 'pino';
import type { Log } from '../ports.ts';
import { boundedOutput } from './log/output.ts';

/**
 * JSON lines on standard output, one an event. Written at once and in this thread: pino's transports load a worker from a
 * file, which a single executable does not have, and a line that waits in a buffer is lost in the crash that it explains.
 */
export function jsonLog(program: string): Log {
  const output = boundedOutput(STDOUT);
  const base = { base: { program, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  const logger = pino(base, { write: (line) => output.write(plain(line)) });
  return {
    info: (event, fields = {}) => logger.info(bounded(fields), event),
    warn: (event, fields = {}) => logger.warn(bounded(fields), event),
  };
}

const STDOUT = 1;
const MAX_FIELD_CHARACTERS = 4096;

/** Names, paths and versions come from strangers: none of them makes a line longer than it has to be. */
function bounded(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, cut(value)]));
}

function cut(value: unknown): unknown {
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  if (text === undefined || text.length <= MAX_FIELD_CHARACTERS) return value;
  return `${text.slice(0, MAX_FIELD_CHARACTERS)}... (${text.length} characters)`;
}

// C1 controls, zero-width and bidirectional ones, and what Unicode takes for the end of a line: JSON lets them through, and a
// terminal that shows the log would obey them. None of them stands outside of a string, where they may be escaped.
const INVISIBLE = /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

const plain = (line: string): string =>
  line.replace(INVISIBLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
