import { type ClosableHttp, type HttpOptions, undiciHttp } from '../../src/system/http.ts';
import { isolatedHttp } from '../../src/system/isolated-http.ts';
import { built } from './built.ts';
import { recordedLog } from './fakes.ts';

type Open = (options?: HttpOptions) => ClosableHttp;

const isolated: Open = (options) => isolatedHttp({ program: [built('qx-node')], log: recordedLog(), ...options });

/** Both that we have, for tests of what the port promises. */
export const HTTP_WAYS: readonly (readonly [string, Open])[] = [
  ['in this process', undiciHttp],
  ['in a process of its own', isolated],
];
