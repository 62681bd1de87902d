import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import type { Process, ProcessResult } from '../../src/ports.ts';
import { hostClock, hostRandom } from '../../src/system/clock.ts';
import { hostProcess } from '../../src/system/process.ts';
import { temporaryFolder } from '../support/temp.ts';

const { run } = hostProcess();
const timeoutMs = 20_000;

describe('a child process', () => {
  test('gets its arguments as they are, without a shell', async () => {
    const { stdout, exitCode } = await run(['printf', '%s|', '$HOME', '; id', '*'], { timeoutMs });
    expect([exitCode, stdout]).toEqual([0, '$HOME|; id|*|']);
  });

  test('T37 gets nothing of our environment', async () => {
    vi.stubEnv('PUBLISH_TOKEN', 'secret');
    vi.stubEnv('NODE_OPTIONS', '--no-warnings');
    try {
      const { stdout } = await run(['env'], { timeoutMs });
      expect(
        stdout
          .trim()
          .split('\n')
          .map((line) => line.split('=')[0])
          .sort(),
      ).toEqual(['HOME', 'LANG', 'LC_ALL', 'PATH']);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test('answers with its exit code, also when a signal ended it', async () => {
    expect(await run(['sh', '-c', 'echo out; echo err >&2; exit 7'], { timeoutMs })).toEqual({
      exitCode: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await run(['sh', '-c', 'kill -TERM $$'], { timeoutMs })).toMatchObject({ exitCode: 143 });
  });

  test('reads what it is given, and otherwise nothing', async () => {
    expect((await run(['cat'], { timeoutMs, input: Buffer.from('hi') })).stdout).toBe('hi');
    expect((await run(['cat'], { timeoutMs })).stdout).toBe('');
  });

  test('that is not there is an error with the reason', async () => {
    await expect(run(['no-such-program'], { timeoutMs })).rejects.toMatchObject({ code: 'IO' });
  });

  test('is killed after its time, together with what it started', async () => {
    const folder = await temporaryFolder();
    const script = `sh -c 'echo $$ > ${join(folder, 'pid')}; sleep 600' & wait`;
    await expect(run(['sh', '-c', script], { timeoutMs: 500 })).rejects.toMatchObject({ code: 'IO' });
    const grandchild = Number(await readFile(join(folder, 'pid'), 'utf8'));
    await vi.waitFor(() => expect(() => process.kill(grandchild, 0)).toThrow('ESRCH'), 5_000);
  });

  test('is killed when it is cancelled', async () => {
    const controller = new AbortController();
    const running = run(['sleep', '600'], { timeoutMs, signal: controller.signal });
    setTimeout(() => controller.abort(), 100);
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(run(['true'], { timeoutMs, signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('cannot fill our memory', async () => {
    await expect(run(['cat', '/dev/zero'], { timeoutMs })).rejects.toMatchObject({ code: 'IO' });
  });

  test('that leaves a daemon behind with our pipes does not make us wait for it', async () => {
    const started = performance.now();
    const { exitCode, stdout } = await run(['sh', '-c', 'sleep 8 & echo started'], { timeoutMs });
    expect([exitCode, stdout]).toEqual([0, 'started\n']);
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe('the clock', () => {
  const answering = (answers: Readonly<Record<string, string>>): Process => ({
    run: async ([program]): Promise<ProcessResult> => {
      const stdout = answers[program];
      if (stdout === undefined) throw new Error('ENOENT');
      return { exitCode: 0, stdout, stderr: '' };
    },
  });
  const tracking = (leap: string) =>
    `Reference ID    : C0A80001 (192.168.0.1)\nStratum         : 3\nLeap status     : ${leap}\n`;

  test.each([
    ['the kernel says so', { busybox: '    status:       8193 (PLL | 0x2000)\n' }, true],
    ['the kernel denies it', { busybox: '    status:       64 (UNSYNC)\n' }, false],
    ['only chrony says so', { busybox: '    status:       64 (UNSYNC)\n', chronyc: tracking('Normal') }, true],
    ['chrony is about to insert a second', { chronyc: tracking('Insert second') }, true],
    ['chrony denies it', { chronyc: tracking('Not synchronised') }, false],
    ['nobody can be asked', {}, false],
    ['the answer makes no sense', { busybox: 'status: unknown', chronyc: '506 Cannot talk to daemon' }, false],
  ])('is synchronised or not when %s', async (_when, answers: Record<string, string>, expected) => {
    expect(await hostClock(answering(answers)).isSynchronised()).toBe(expected);
  });

  test('asks the real machine without failing', async () => {
    expect([true, false]).toContain(await hostClock(hostProcess()).isSynchronised());
  });

  test('sleeps, and wakes early when told', async () => {
    const clock = hostClock(hostProcess());
    const started = clock.monotonicMs();
    await clock.sleep(30);
    expect(clock.monotonicMs() - started).toBeGreaterThan(25);
    const controller = new AbortController();
    const month = clock.sleep(40 * 24 * 3_600_000, controller.signal);
    expect(await Promise.race([month.then(() => 'slept'), sleep(50, 'still asleep')])).toBe('still asleep');
    controller.abort();
    await expect(month).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

test('random names and numbers', () => {
  const random = hostRandom();
  const ids = Array.from({ length: 200 }, () => random.id());
  expect(new Set(ids).size).toBe(200);
  expect(ids.every((id) => /^[a-z0-9]{16}$/.test(id))).toBe(true);
  const units = Array.from({ length: 1000 }, () => random.unit());
  expect(units.every((u) => u >= 0 && u < 1)).toBe(true);
  expect(Math.abs(units.reduce((a, b) => a + b) / 1000 - 0.5)).toBeLessThan(0.1);
});
