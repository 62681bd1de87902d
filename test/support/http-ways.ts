import { join } from 'node:path';
import { type ClosableHttp, type HttpOptions, undiciHttp } from '../../src/system/http.ts';
import { isolatedHttp } from '../../src/system/isolated-http.ts';
import { recordedLog } from './fakes.ts';

/** This source as a program, as `cli/serve.ts` starts it when it runs from source itself. */
export const FROM_SOURCE = [process.execPath, join(import.meta.dirname, '../../src/main.ts')];

type Open = (options?: HttpOptions) => ClosableHttp;

const isolated: Open = (options) => isolatedHttp({ program: FROM_SOURCE, log: recordedLog(), ...options });

/** Both that we have, for tests of what the port promises. */
export const HTTP_WAYS: readonly (readonly [string, Open])[] = [
  ['in this process', undiciHttp],
  ['in a process of its own', isolated],
];
