import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { settleAtStart } from '../../src/agent/daemon.ts';
import { install } from '../../src/agent/install.ts';
import { recover } from '../../src/agent/recover.ts';
import { isProven, reportStarted } from '../../src/agent/self.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  memoryOf,
  rebootInto,
} from '../support/agent-machine.ts';
import {
  componentRelease,
  componentsOf,
  cutEverywhere,
  fullRelease,
  type Journey,
  STARTS,
} from '../support/agent-powercut.ts';
import { contentOf } from '../support/agent-releases.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

const WHY = 'was started 3 times and never became healthy: gone within 1 s of its start';
const DETAIL = `qx-node 2.0.0 ${WHY}; the previous one was put back`;

const write = (host: TestHost, path: string, text: string) => writeFile(join(host.root, path), text);

/** What node-run leaves behind when it gives the agent of release 2.0.0 up. */
async function nodeRunGivesUp(host: TestHost, why = `2.0.0 ${WHY}\n`): Promise<void> {
  await write(host, 'data/versions/qx-node.bad-reason', why);
  await write(host, 'data/versions/qx-node.bad', '2.0.0\n');
  await write(host, 'data/bin/qx-node', contentOf('qx-node', '1.0.0'));
  await write(host, 'data/versions/qx-node.version', '1.0.0\n');
}

requires({ commands: IMAGE_COMMANDS })('a release whose agent node-run took back', () => {
  const bench = agentBench();
  const installed = async (release: Awaited<ReturnType<typeof fullRelease>>): Promise<TestHost> => {
    const host = await bench.host([release]);
    await install(host, {}, {});
    return host;
  };

  test('goes back as a whole, and the report says why', async () => {
    const host = await installed(await componentRelease(bench));
    expect(await journalOf(host.root)).toMatchObject({ phase: 'complete' });
    await nodeRunGivesUp(host);
    const next = await openHost(host);
    // The agent that does this is the one that was put back: nobody has to make way for it.
    expect(await settleAtStart(next)).toBe(false);
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    expect(await installedVersions(host.root)).toEqual(componentsOf('1.0.0'));
    const error = { code: 'AGENT_FAILED', detail: DETAIL };
    expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack', error });
    expect(next.outcomes).toMatchObject([{ result: 'rolled_back', ...error }]);
    expect(await memoryOf(host.root)).toMatchObject({ committed: null, bad: [{ version: '2.0.0', reason: DETAIL }] });
    expect(next.services.restarts).not.toContain('quantix-node');

    const again = await openHost(host);
    expect(await settleAtStart(again)).toBe(false);
    expect(again.outcomes).toEqual([]);
  });

  test('that waits for its reboot is never booted', async () => {
    const host = await installed(await fullRelease(bench, '2.0.0'));
    await nodeRunGivesUp(host);
    const next = await openHost(host);
    await settleAtStart(next);
    const error = { code: 'AGENT_FAILED', detail: DETAIL };
    expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', pending: false, error });
    expect(next.outcomes).toMatchObject([{ result: 'failed', ...error }]);
    expect((await bootState(host.root)).state).toMatchObject({ order: ['A', 'B'], trial: '', B: { ok: false } });
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
    expect(await install(next, {}, {})).toMatchObject({ kind: 'refusal', code: 'RELEASE_BAD' });
  });

  test('on trial is no healthy one, however well the agent from before answers', async () => {
    const { confirm } = await import('../../src/agent/confirm.ts');
    const host = await installed(await fullRelease(bench, '2.0.0'));
    await rebootInto(host.root, bench.known());
    await nodeRunGivesUp(host);
    const onTrial = await openHost(host);
    await settleAtStart(onTrial);
    expect(await confirm(onTrial)).toMatchObject({ kind: 'rolling_back', failed: [{ name: 'agent', detail: DETAIL }] });
    expect((await rebootInto(host.root, bench.known())).slot).toBe('A');
    await settleAtStart(await openHost(host));
    const error = { code: 'UNHEALTHY', detail: `agent: ${DETAIL}` };
    expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack', error });
    expect(await installedBytes(host.root)).toEqual(componentsOf('1.0.0'));
  });

  test('keeps what has no way back, and says so', async () => {
    const host = await installed(await componentRelease(bench, { 'qx-console': { backup_before_update: false } }));
    await nodeRunGivesUp(host);
    await settleAtStart(await openHost(host));
    expect(await installedBytes(host.root)).toEqual({ ...componentsOf('1.0.0'), 'qx-console': '2.0.0' });
    const detail = `${DETAIL}; without a backup, and left as it is: qx-console 2.0.0`;
    expect(await journalOf(host.root)).toMatchObject({ phase: 'rolledBack', error: { detail } });
  });

  test.each([
    ['there is none', '', 'did not start'],
    ['it is about another version', '1.9.0 is no program\n', 'did not start'],
    ['it is longer than a line of a log', `2.0.0 ${'x'.repeat(3000)}\n`, 'x'.repeat(500)],
    ['it is longer than it can be', `2.0.0 ${'x'.repeat(9000)}\n`, 'did not start'],
    ['it would steer a terminal', '2.0.0 \u001b[2J\u202eup\nsecond line\n', '?[2J?up'],
  ])('and a reason that is no good: %s', async (_, text, why) => {
    const host = await installed(await componentRelease(bench));
    await nodeRunGivesUp(host, text);
    await settleAtStart(await openHost(host));
    const detail = `qx-node 2.0.0 ${why}; the previous one was put back`;
    expect((await journalOf(host.root))?.error?.detail).toBe(detail);
  });

  test('is tried again when it is asked for by its version', async () => {
    const host = await installed(await componentRelease(bench));
    await nodeRunGivesUp(host);
    const next = await openHost(host);
    await settleAtStart(next);
    expect(await install(next, { version: '2.0.0' }, {})).toMatchObject({ kind: 'complete' });
    expect(await readFile(join(host.root, 'data/versions/qx-node.bad'), 'utf8')).toBe('');
    await settleAtStart(await openHost(host));
    expect(await journalOf(host.root)).toMatchObject({ phase: 'complete', target_version: '2.0.0' });
  });

  const JOURNEYS: readonly (readonly [string, number, Journey])[] = [
    ['components alone', 12, { ...journey(), releases: async () => [await componentRelease(bench)] }],
    ['a whole release that is armed', 14, { ...journey(), releases: async () => [await fullRelease(bench, '2.0.0')] }],
  ];

  function journey() {
    const prepare = async (host: TestHost): Promise<void> => {
      await install(host, {}, {});
      await nodeRunGivesUp(host);
    };
    return { prepare, act: recover };
  }

  describe.each(JOURNEYS)('with the power going after each effect, %s:', (_, atLeast, cut) => {
    test.each(STARTS)(
      'it is the old one in the end when %s',
      async (start) => {
        expect(await cutEverywhere(bench, cut, start)).toBeGreaterThanOrEqual(atLeast);
      },
      240_000,
    );
  });
});

describe('an agent that is up', () => {
  const bench = agentBench();

  test('is proven as what node-run started it as, and nothing else is', async () => {
    const host = await bench.host();
    await mkdir(join(host.root, 'run/quantix'), { recursive: true });
    await reportStarted(host);
    expect(await isProven(host.files)).toBe(false);
    await write(host, 'run/quantix/node-start', '1.1.0 4711\n');
    expect(await isProven(host.files)).toBe(false);
    await reportStarted(host);
    expect(await readFile(join(host.root, 'data/versions/qx-node.proven'), 'utf8')).toBe('1.1.0\n');
    expect(await isProven(host.files)).toBe(true);
    await write(host, 'run/quantix/node-start', '1.2.0 4712\n');
    expect(await isProven(host.files)).toBe(false);
  });

  test.each(['writeAtomic', 'remove'] as const)('has started also where %s fails', async (broken) => {
    const host = await bench.host();
    await mkdir(join(host.root, 'data/updates'), { recursive: true });
    await mkdir(join(host.root, 'run/quantix'), { recursive: true });
    await write(host, 'data/updates/node-starts', '2 1.0.0\n');
    const files = { ...host.files, [broken]: () => Promise.reject(new Error('no space')) };
    await reportStarted({ ...host, files });
    const marks = ['/run/quantix/started-ok', '/data/updates/node-starts'] as const;
    const [isMarked, isCounted] = await Promise.all(marks.map(async (path) => (await host.files.info(path)) !== null));
    expect([isMarked, isCounted]).toEqual(broken === 'remove' ? [true, true] : [false, false]);
  });
});
