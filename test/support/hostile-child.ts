import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Stands where the process that fetches should be, after somebody on the network has taken it over. */

const [, , means = ''] = process.argv;
const control = (text: string): void => void writeSync(3, text);
const say = (saying: object): void => control(`${JSON.stringify(saying)}\n`);
const head = (fields: object = {}): void => say({ say: 'head', status: 200, headers: {}, ...fields });
const body = (bytes: number): void => void writeSync(1, new Uint8Array(bytes));
const forever = (): Promise<void> => sleep(600_000);
const headers = (count: number): object => Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-${i}`, 'y']));

const MEANS: Readonly<Record<string, () => unknown>> = {
  'no JSON': () => control('{"say":"head"\n'),
  'a key twice': () => control('{"say":"head","status":200,"status":206,"headers":{}}\n'),
  'a line without end': async () => {
    control('x'.repeat(70_000));
    await forever();
  },
  'half a line': () => control('{"say":'),
  'status 99': () => head({ status: 99 }),
  'status 600': () => head({ status: 600 }),
  'a status that is text': () => head({ status: '200' }),
  'a header with a line break': () => head({ headers: { etag: '"a"\r\nx: y' } }),
  'a header with an escape': () => head({ headers: { etag: '\u001b[2J' } }),
  'a header name in capitals': () => head({ headers: { ETag: '"a"' } }),
  'too many headers': () => head({ headers: headers(300) }),
  'a field that nobody knows': () => head({ trusted: true }),
  'a code of ours': () => say({ say: 'error', code: 'CANCELLED', detail: '' }),
  'no code at all': () => say({ say: 'error', code: '__proto__', detail: '' }),
  'an escape in a detail': () => say({ say: 'error', code: 'SERVER_UNREACHABLE', detail: '\u001b]0;x\u0007' }),
  'the end before the head': () => say({ say: 'end', bytes: 0 }),
  'the head twice': () => [head(), body(10), head()],
  'more bytes counted than sent': () => [head(), body(10), say({ say: 'end', bytes: 11 })],
  'fewer bytes counted than sent': () => [head(), body(11), say({ say: 'end', bytes: 10 })],
  'more after the end': () => [head(), body(10), say({ say: 'end', bytes: 10 }), say({ say: 'end', bytes: 10 })],
  'death before the head': () => undefined,
  'death in the body': () => [head(), body(10)],
  'more than was asked for': () => [head(), body(1_000_000)],
  'noise on standard error': async () => {
    for (;;) {
      process.stderr.write('x'.repeat(10_000));
      await sleep(1);
    }
  },
  'silence before the head': forever,
  'silence in the body': () => [head(), body(10), forever()],
  'no end after the end': () => [head(), body(10), say({ say: 'end', bytes: 10 }), forever()],
};

if (means !== 'no start') {
  say({ say: 'ready' });
  // Waiting too, so that it does not end for other reasons than those under test.
  await Promise.all([MEANS[means]?.()].flat());
} else {
  process.stderr.write('no \u001b[31mway\n');
}
