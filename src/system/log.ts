import pino from 'pino';
import type { Log } from '../ports.ts';

/**
 * JSON lines on standard output, one an event. Written at once and in this thread: pino's transports load a worker from a
 * file, which a single executable does not have, and a line that waits in a buffer is lost in the crash that it explains.
 */
export function jsonLog(program: string): Log {
  const logger = pino({ base: { program, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime });
  return {
    info: (event, fields) => logger.info(fields ?? {}, event),
    warn: (event, fields) => logger.warn(fields ?? {}, event),
  };
}
