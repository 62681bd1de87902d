import { isolatedHttp } from '../../src/system/isolated-http.ts';
import { recordedLog } from './fakes.ts';

/** A program that fetches and is killed in the middle. Says when the body has begun. */

const [, , url = '', ...program] = process.argv;
const limits = {
  maxBytes: 1 << 30,
  connectTimeoutMs: 20_000,
  headersTimeoutMs: 20_000,
  minBytesPerWindow: 1,
  windowMs: 60_000,
};
const { body } = await isolatedHttp({ program, log: recordedLog() }).get(url, { limits });
for await (const chunk of body) process.stdout.write(`${chunk.length}\n`);
