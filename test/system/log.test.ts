import { closeSync, constants, openSync, readdirSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { boundedOutput } from '../../src/system/log/output.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const SOURCE = join(import.meta.dirname, '../../src/system/log.ts');
const KIBIBYTE = 1024;
const MEBIBYTE = KIBIBYTE * KIBIBYTE;

/** A program of its own that logs, with its standard output appended to a file the way supervise-daemon does. */
async function logged(code: string, file?: string): Promise<string> {
  const path = file ?? join(await temporaryFolder(), 'node.log');
  const script = `const { jsonLog } = await import(${JSON.stringify(SOURCE)}); const log = jsonLog('test'); ${code}`;
  const node = [process.execPath, '--input-type=module', '-e', script];
  await execa('sh', ['-c', 'exec "$@" >>"$0"', path, ...node]);
  return path;
}

const linesOf = async (path: string) =>
  (await readFile(path, 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

const sizeOf = async (path: string): Promise<number> => (await stat(path)).size;

async function appended(text = '') {
  const path = join(await temporaryFolder(), 'node.log');
  await writeFile(path, text, { mode: 0o600 });
  const fd = openSync(path, constants.O_WRONLY | constants.O_APPEND);
  onTestFinished(() => closeSync(fd));
  return { path, fd };
}

describe('the log file', () => {
  test('is begun anew when it is full, and its last part kept for its owner alone', async () => {
    const { path, fd } = await appended();
    const output = boundedOutput(fd, 64 * KIBIBYTE);
    const line = (i: number) => `${JSON.stringify({ i, text: 'x'.repeat(1000) })}\n`;
    for (let i = 0; i < 1000; i++) output.write(line(i));
    expect(await sizeOf(path)).toBeLessThanOrEqual(64 * KIBIBYTE);
    expect(await sizeOf(`${path}.1`)).toBeLessThanOrEqual(64 * KIBIBYTE);
    expect((await stat(`${path}.1`)).mode & 0o777).toBe(0o600);
    const kept = [...(await linesOf(`${path}.1`)), ...(await linesOf(path))].map(({ i }) => i);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => 1000 - kept.length + i));
    expect(readdirSync(join(path, '..')).sort()).toEqual(['node.log', 'node.log.1']);
  });

  test('of an agent that crashes again and again is bounded at each start, from a whole line on', async () => {
    const path = join(await temporaryFolder(), 'node.log');
    await writeFile(path, `${JSON.stringify({ text: 'y'.repeat(990) })}\n`.repeat(20 * KIBIBYTE));
    await logged(`log.info('started')`, path);
    expect(await linesOf(path)).toMatchObject([{ msg: 'started' }]);
    const kept = await sizeOf(`${path}.1`);
    expect(kept).toBeGreaterThan(7 * MEBIBYTE);
    expect(kept).toBeLessThanOrEqual(8 * MEBIBYTE);
    expect((await linesOf(`${path}.1`))[0]).toMatchObject({ text: expect.stringMatching(/^y{990}$/) });
  });

  test('is cut all the same where its last part cannot be kept', async () => {
    const { path, fd } = await appended('z'.repeat(KIBIBYTE));
    await mkdir(`${path}.1`);
    const output = boundedOutput(fd, KIBIBYTE);
    output.write('{"msg":"one more"}\n');
    expect(await linesOf(path)).toMatchObject([{ msg: 'log_cut' }, { msg: 'one more' }]);
  });

  test('follows no link that waits in the place of what is kept', async () => {
    const { path, fd } = await appended('z'.repeat(KIBIBYTE));
    const victim = `${path}.victim`;
    await writeFile(victim, 'untouched');
    await execa('ln', ['-s', victim, `${path}.1`]);
    await execa('ln', ['-s', victim, `${path}.1.qx-new`]);
    boundedOutput(fd, KIBIBYTE).write('one more\n');
    expect(await readFile(victim, 'utf8')).toBe('untouched');
    expect((await stat(`${path}.1`)).size).toBe(KIBIBYTE);
  });

  test('that is not appended to, or is no file, is left alone', async () => {
    const path = join(await temporaryFolder(), 'node.log');
    const fd = openSync(path, 'w');
    onTestFinished(() => closeSync(fd));
    const output = boundedOutput(fd, 10);
    for (let i = 0; i < 3; i++) output.write('a line\n');
    expect(await readFile(path, 'utf8')).toBe('a line\n'.repeat(3));
  });
});

requires({ root: true, commands: ['mount', 'umount'] })('on a file system that is full', () => {
  test('the log is cut without keeping anything, and goes on', async () => {
    const folder = await temporaryFolder();
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=96k', 'tmpfs', folder]);
    onTestFinished(async () => void (await execa('umount', [folder])));
    const path = join(folder, 'node.log');
    await writeFile(path, '{"msg":"z"}\n'.repeat(6 * KIBIBYTE), { mode: 0o600 });
    const fd = openSync(path, constants.O_WRONLY | constants.O_APPEND);
    boundedOutput(fd, 64 * KIBIBYTE).write('{"msg":"one more"}\n');
    closeSync(fd);
    expect(await linesOf(path)).toMatchObject([{ msg: 'log_cut' }, { msg: 'one more' }]);
    expect(readdirSync(folder)).toEqual(['node.log']);
  });
});

test.each([
  ['that is full', '/dev/full', 'a'],
  ['that cannot be written to', '/dev/zero', 'r'],
])('an output %s loses lines and stops nobody', (_why, device, flags) => {
  const fd = openSync(device, flags);
  onTestFinished(() => closeSync(fd));
  expect(() => boundedOutput(fd).write('a line\n')).not.toThrow();
});

test('a field of a megabyte is cut, however it is nested', async () => {
  const path = await logged(`
    const big = 'x'.repeat(1 << 20);
    log.warn('big', { version: big, list: [big, big], count: 1, nothing: undefined, none: null });`);
  expect(await sizeOf(path)).toBeLessThan(16 * KIBIBYTE);
  expect(await linesOf(path)).toMatchObject([
    { msg: 'big', version: expect.stringContaining('(1048576 char'), count: 1 },
  ]);
});

test('T43 newlines, ANSI and bidirectional marks in a field neither break a line nor reach a terminal', async () => {
  const evil = '1.0\n{"msg":"forged"}\r\u001b[2J\u009b31m\u202egnp.exe\u2028\u2066\u200b\ufeff\u007f\u0000';
  const path = await logged(`log.warn('refused', { version: ${JSON.stringify(evil)} })`);
  const text = await readFile(path, 'utf8');
  expect(text.split('\n')).toHaveLength(2);
  expect(text.trimEnd()).toMatch(/^[\x20-\x7e]+$/);
  expect(await linesOf(path)).toMatchObject([{ msg: 'refused', version: evil }]);
});
