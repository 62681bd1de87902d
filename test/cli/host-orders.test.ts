import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hostFolder, releaseServer, startAgent } from '../support/agent.ts';
import { runInProcess } from '../support/host-tools.ts';

/** The verbs that give orders to an agent, which is a process of its own. */

async function withAgent() {
  const server = await releaseServer();
  const host = await hostFolder(server.settings);
  await server.trustIn(host);
  const agent = await startAgent(host.path);
  const run = (...args: readonly string[]) => runInProcess(['--root', host.path, ...args]);
  const json = async (...args: readonly string[]) => {
    const { exitCode, stdout } = await run(...args, '--json');
    return { exitCode, ...JSON.parse(stdout) };
  };
  return { server, host, agent, run, json };
}

test('what an operator does to a host in the course of a day', async () => {
  const { server, host, run, json } = await withAgent();

  // Settings of the running agent, which survive it.
  expect(await json('config', 'show')).toMatchObject({ schema: 'qx-update.config/1', serverUrl: server.url });
  expect(await json('config', 'set', 'max_backups=5')).toMatchObject({ exitCode: 0, maxBackups: 5 });
  expect((await run('config', 'show')).stdout).toMatch(/^max_backups=5 +\/quantix\/limiquantix\/node\.yaml$/m);
  expect((await json('config', 'unset', 'max_backups')).maxBackups).toBe(3);
  expect(await json('config', 'set', 'storage_location=volume')).toMatchObject({ exitCode: 2, code: 'CONFIG_INVALID' });

  // A hold: shown, kept to, lifted.
  expect(await json('hold', '--reason', 'an audit')).toMatchObject({ exitCode: 0, held: { reason: 'an audit' } });
  expect((await run('status')).stdout).toMatch(/^On hold +an audit$/m);
  expect(await json('apply')).toMatchObject({ exitCode: 5, code: 'HELD', next: 'qx-update unhold' });
  expect((await run('unhold')).stdout).toBe('Updates are not on hold.\n');

  // Fetched ahead, given up, fetched, installed.
  expect(await json('cancel')).toMatchObject({ exitCode: 3, code: 'NOTHING_TO_CANCEL' });
  server.hold(true);
  expect(await json('download', '--detach')).toMatchObject({ exitCode: 0, status: 'started' });
  await expect.poll(async () => (await json('status')).status, { timeout: 20_000 }).toBe('downloading');
  expect(await run('download')).toMatchObject({ exitCode: 6, stderr: expect.stringContaining('[BUSY]') });
  expect((await run('cancel')).stdout).toContain('next safe point');
  await expect.poll(async () => (await json('status')).status, { timeout: 20_000 }).toBe('idle');
  expect((await json('status')).message).toBe('The update was cancelled');
  expect(await json('reset', '--downloads')).toMatchObject({
    exitCode: 0,
    previousStatus: 'idle',
    currentStatus: 'idle',
  });
  server.hold(false);
  expect(await json('download')).toMatchObject({ exitCode: 0, schema: 'qx-update.download/1', kind: 'downloaded' });
  expect((await run('apply')).stdout).toBe('Updated to version 1.1.0.\n');

  const { entries } = await json('history', '--limit', '1');
  expect(entries).toMatchObject([{ version: '1.1.0', previous_version: '1.0.0', result: 'complete' }]);
  expect((await run('history')).stdout).toMatch(
    /^FINISHED +FROM -> TO +RESULT .*\n\S+Z +1\.0\.0 -> 1\.1\.0 +complete +\d+\.\d s/,
  );

  // What is there is what was signed, until somebody touches it.
  expect(await json('verify')).toMatchObject({ exitCode: 0, schema: 'qx-update.verify/1', ok: true });
  const head = join(host.path, 'quantix/limiquantix/audit/head');
  const events = (await json('log')).events.map(({ event }: { event: string }) => event);
  expect(events).toEqual(
    expect.arrayContaining(['updates_held', 'updates_released', 'status_reset', 'update_finished']),
  );
  await writeFile(head, (await readFile(head, 'utf8')).replace(/^[0-9]+/, '999'));
  expect(await run('verify')).toMatchObject({ exitCode: 7, stdout: expect.stringMatching(/^audit log +differs/m) });

  // Not while somebody still needs this host. One that lives in a folder only notes that it wants to reboot.
  const inhibit = join(host.path, 'run/quantix/inhibit');
  await mkdir(inhibit, { recursive: true });
  await writeFile(join(inhibit, 'backup'), 'until noon\n');
  expect(await json('reboot')).toMatchObject({
    exitCode: 5,
    code: 'REBOOT_REFUSED',
    detail: expect.stringContaining('noon'),
  });
  await rm(inhibit, { recursive: true });
  expect(await json('reboot')).toMatchObject({ exitCode: 0, status: 'rebooting' });
  const wish = join(host.path, 'run/quantix/reboot-requested');
  await expect
    .poll(
      () =>
        access(wish).then(
          () => 'noted',
          () => 'not yet',
        ),
      { timeout: 20_000 },
    )
    .toBe('noted');
}, 120_000);

test('a bundle is named by its whole path, and asked for in the audit log', async () => {
  const { run, json } = await withAgent();
  const { exitCode, stderr } = await run('install', 'no-such.qxb');
  expect(exitCode).toBe(1);
  expect(stderr).toContain('[NOT_FOUND]');
  expect((await json('log')).events).toMatchObject([
    { event: 'agent_started' },
    { event: 'update_requested', actor: 'root on the socket', fields: { what: 'install' } },
    { event: 'release_refused', code: 'NOT_FOUND' },
  ]);
  expect(await json('install', '/x', '--component', 'a', '--reboot')).toMatchObject({ exitCode: 2, code: 'USAGE' });
});

test('events go on when the agent is started anew, and end with Ctrl-C or with whoever reads them', async () => {
  const { host, agent } = await withAgent();
  const interrupt = new AbortController();
  const lines: string[] = [];
  const watch = (stdout: object, signal: AbortSignal) =>
    runInProcess(['--root', host.path, 'events', '--json'], {
      stdout: { write: (text: string) => lines.push(text), ...stdout },
      interrupted: () => signal,
    });
  // One line is written before it is noticed that nobody reads.
  expect(await watch({ writable: false }, interrupt.signal)).toMatchObject({ exitCode: 0 });
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { schema: 'qx-update.event/1', type: 'status', data: { status: 'idle' } },
  ]);
  const watching = watch({}, interrupt.signal);
  await expect.poll(() => lines.length, { timeout: 10_000 }).toBe(3);
  agent.kill('SIGKILL');
  await agent.ended;
  await startAgent(host.path);
  await expect.poll(() => lines.length, { timeout: 20_000 }).toBe(5);
  expect(lines.map((line) => JSON.parse(line).type)).toEqual(['status', 'status', 'progress', 'status', 'progress']);
  interrupt.abort();
  expect(await watching).toEqual({ exitCode: 0, stdout: '', stderr: '' });
}, 120_000);

test.each(['apply', 'download'])('%s of something that is no version is a usage error in words', async (verb) => {
  expect(await runInProcess([verb, '--version', '../../etc'])).toMatchObject({
    exitCode: 2,
    stderr: expect.stringMatching(/'\.\.\/\.\.\/etc' is invalid\. Not a version such as 1\.4\.2/),
  });
});
