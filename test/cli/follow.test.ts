import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { AgentClient } from '../../src/cli/client.ts';
import { follow, pollAfter } from '../../src/cli/host/follow.ts';
import { QxError } from '../../src/errors.ts';
import type { ProgressResponse, UpdateStatus } from '../../src/format/agent-documents.ts';
import { refusal } from '../support/documents.ts';

/** What the agent says, call by call; the last answer stays. */
type Said = QxError | ProgressResponse | UpdateStatus;

const DOWN = new QxError('AGENT_DOWN', 'nobody listens');
const idle: ProgressResponse = { busy: false, phase: 'idle', name: '', doneBytes: 0, totalBytes: 0 };
const busy = { ...idle, busy: true, phase: 'downloading', name: 'x.tar.zst', doneBytes: 1, totalBytes: 2 } as const;

function following(...said: readonly Said[]) {
  return followingUntil(new AbortController().signal, ...said);
}

function followingUntil(signal: AbortSignal, ...said: readonly Said[]) {
  const calls = { count: 0 };
  const notes: string[] = [];
  const bars: string[] = [];
  const call = async () => {
    const answer = said[Math.min(calls.count++, said.length - 1)];
    if (answer instanceof QxError) throw answer;
    return answer;
  };
  const context = {
    agent: { call: call as AgentClient['call'] },
    note: (text: string) => notes.push(text),
    progress: { report: ({ label }: { label: string }) => bars.push(label), end: () => undefined },
  };
  const end = follow(context, signal);
  return { end, notes, bars };
}

test('the end of an update in the same agent', async () => {
  const { end, bars } = following(busy, { ...idle, result: { kind: 'reboot_required', version: '1.1.0' } });
  expect(await end).toEqual({
    kind: 'reboot_required',
    message: 'Version 1.1.0 is installed; a reboot finishes it.',
  });
  expect(bars).toEqual(['downloading x.tar.zst']);
});

test.each([
  [0, 200],
  [20, 200],
  [60, 600],
  [30_000, 2000],
])('an answer that took %i ms: the next question %i ms later, so that nobody waits long for the end', (tookMs, ms) => {
  expect(pollAfter(tookMs)).toBe(ms);
});

test('an agent that takes its time is asked less often', async () => {
  const stop = new AbortController();
  const asked: number[] = [];
  const call = async () => {
    asked.push(performance.now());
    await sleep(60);
    if (asked.length === 3) stop.abort();
    return busy;
  };
  const context = {
    agent: { call: call as AgentClient['call'] },
    note: () => undefined,
    progress: { report: () => undefined, end: () => undefined },
  };
  const end = follow(context, stop.signal);
  await expect(end).rejects.toMatchObject({ code: 'CANCELLED' });
  const [first = 0, second = 0] = asked;
  expect(second - first).toBeGreaterThan(600);
});

test('why it was not installed comes with its code and what to do next', async () => {
  const refused = { code: 'NO_SPACE', detail: 'no room', next: 'make some' };
  const { end } = following({ ...idle, result: { kind: 'failed', refused } });
  await expect(end).rejects.toMatchObject({ code: 'NO_SPACE', message: 'no room', next: 'make some' });
});

test('an agent that replaced itself is waited for', async () => {
  const { end, notes } = following(busy, DOWN, DOWN, DOWN, { status: 'idle' }, { status: 'complete', message: 'Done' });
  expect(await end).toEqual({ kind: 'complete', message: 'Done.' });
  expect(notes).toEqual(['The agent restarts; waiting for it.']);
});

test('one that died before the update had begun knows of nothing, and that is said', async () => {
  const { end } = following(busy, DOWN, { status: 'idle' });
  await expect(end).rejects.toMatchObject({ code: 'INTERRUPTED', next: 'qx-update apply' });
});

test('one that was already back when it was asked again is noticed', async () => {
  const { end } = following(busy, idle, { status: 'error', message: 'stopped' });
  expect(await refusal(() => end)).toBe('INTERRUPTED');
});

test('a code that this program does not know is still a failure', async () => {
  const { end } = following({ ...idle, result: { kind: 'failed', refused: { code: 'FROM_THE_FUTURE', detail: 'x' } } });
  expect(await refusal(() => end)).toBe('INTERNAL');
});

test('an update that somebody else cancels does not go on; one that is only no longer followed does', async () => {
  const refused = { code: 'CANCELLED', detail: 'the update was stopped' };
  const { end, notes } = following(busy, { ...idle, result: { kind: 'failed', refused } });
  await expect(end).rejects.toMatchObject({ code: 'CANCELLED', message: 'the update was stopped' });
  expect(notes).toEqual([]);
  const interrupted = followingUntil(AbortSignal.abort(), busy);
  await expect(interrupted.end).rejects.toMatchObject({
    code: 'CANCELLED',
    message: expect.stringContaining('goes on'),
  });
});
