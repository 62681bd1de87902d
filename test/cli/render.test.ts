import { describe, expect, test } from 'vitest';
import { formatBytes, jsonLine, printable, progressReporter, type Stream, table } from '../../src/cli/render.ts';

function recorder(options: Partial<Stream> = {}): Stream & { text: () => string } {
  const parts: string[] = [];
  return { ...options, write: (text) => parts.push(text), text: () => parts.join('') };
}

test('a table aligns its columns and leaves no space at the end of a line', () => {
  const text = table([
    ['name', 'version', 'size'],
    ['qx-console', '1.0.0', ''],
  ]);
  expect(text).toBe('name        version  size\nqx-console  1.0.0\n');
});

test('what comes from elsewhere cannot steer the terminal', () => {
  expect(printable('a\u001b[2Jb\rc\u009bd\ne\u202ef')).toBe('a�[2Jb�c�d\ne�f');
  expect(table([['\u001b]0;title\u0007', 'x']])).not.toContain('\u001b');
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1.0 KiB'],
  [123_456_789, '117.7 MiB'],
  [2 ** 50, '1024.0 TiB'],
])('%i bytes is %s', (size, text) => {
  expect(formatBytes(size)).toBe(text);
});

test('a JSON line names its schema first', () => {
  expect(jsonLine('qx-release.pack/1', { artifact: 'a' })).toBe('{"schema":"qx-release.pack/1","artifact":"a"}\n');
});

describe('progress', () => {
  const run = (stream: Stream, options = {}) => {
    const reporter = progressReporter(stream, 'p/1', options);
    for (let done = 0; done <= 1000; done++) reporter.report({ label: 'upload', done, total: 1000 });
    reporter.end();
  };

  test('on a terminal: one line that is drawn over, within its width', () => {
    const stream = recorder({ isTTY: true, columns: 60 });
    run(stream);
    const lines = stream.text().trimEnd().split('\r').slice(1);
    expect(lines).toHaveLength(101);
    expect(lines.at(-1)).toMatch(/^upload \[#+\] 100 % {2}1000 B of 1000 B$/);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(60);
    expect(stream.text().endsWith('\n')).toBe(true);
  });

  test('of what nobody knows the size: its name, and no bar that stands still', () => {
    const stream = recorder({ isTTY: true, columns: 60 });
    progressReporter(stream, 'x/1').report({ label: 'downloading manifest', done: 0, total: 0 });
    expect(stream.text()).toBe('\rdownloading manifest');
  });

  test('in a very narrow terminal: no bar, and never a wrapped line', () => {
    const stream = recorder({ isTTY: true, columns: 12 });
    run(stream);
    expect(stream.text().trimEnd().split('\r').at(-1)).toBe('upload 100');
  });

  test('a serial console does not know its width: as on one of 80', () => {
    const [serial, usual] = [0, 80].map((columns) => recorder({ isTTY: true, columns }));
    for (const stream of [serial, usual]) if (stream !== undefined) run(stream);
    expect(serial?.text()).toContain('] 100 %');
    expect(serial?.text()).toBe(usual?.text());
  });

  test('elsewhere, and whenever JSON was asked for: a line for each tenth', () => {
    for (const [stream, options] of [
      [recorder(), {}],
      [recorder({ isTTY: true }), { json: true }],
    ] as const) {
      run(stream, options);
      const lines = stream.text().trimEnd().split('\n');
      expect(lines).toHaveLength(11);
      expect(JSON.parse(String(lines[5]))).toEqual({
        schema: 'p/1',
        label: 'upload',
        done: 500,
        total: 1000,
        percent: 50,
      });
    }
  });

  test('a size that is not known yet is no progress', () => {
    const stream = recorder();
    progressReporter(stream, 'p/1').report({ label: 'x', done: 0, total: 0 });
    expect(JSON.parse(stream.text())).toMatchObject({ percent: 0 });
  });
});
