import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hostFolder } from '../support/agent.ts';
import { runInProcess } from '../support/host-tools.ts';

/** The verbs that work on the host itself, where no agent runs and perhaps none can. */

async function alone(settings: readonly string[] = []) {
  const host = await hostFolder(settings);
  const run = (...args: readonly string[]) => runInProcess(['--root', host.path, ...args]);
  const json = async (...args: readonly string[]) => JSON.parse((await run(...args, '--json')).stdout);
  const events = async () => (await json('log')).events;
  return { ...host, run, json, events };
}

const SETTINGS = 'etc/limiquantix/node.yaml';

test('the token is made, shown and replaced, and only its replacement is recorded', async () => {
  const { path, run, json, events } = await alone();
  expect(await run('token', 'show')).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('token rotate') });
  const made = await run('token', 'rotate');
  expect(made.stdout).toMatch(/^[\w-]{43}\n$/);
  expect(await run('token', 'show')).toEqual(made);
  expect(await json('token', 'show')).toEqual({ schema: 'qx-update.token/1', token: made.stdout.trim() });
  expect((await run('token', 'rotate')).stdout).not.toBe(made.stdout);
  expect((await stat(join(path, 'quantix/limiquantix/api-token'))).mode & 0o777).toBe(0o600);
  const recorded = await events();
  expect(recorded).toMatchObject(Array(2).fill({ event: 'token_rotated', actor: 'root at the command line' }));
  expect(JSON.stringify(recorded)).not.toContain(made.stdout.trim());
});

test('a terminal is warned that it shows a secret', async () => {
  const { path } = await alone();
  const printed: string[] = [];
  const stdout = { isTTY: true, write: (text: string) => printed.push(text) };
  const { stderr } = await runInProcess(['--root', path, 'token', 'rotate'], { stdout });
  expect(printed.join('')).toMatch(/^[\w-]{43}\n$/);
  expect(stderr).toContain('leave it in no log');
});

test('a host says how it is, in words and as a document, and what a program in health.d thinks of it', async () => {
  const { write, run, json } = await alone();
  await write('etc/limiquantix/health.d/10-pool', '#!/bin/sh\necho degraded >&2; exit 4\n');
  const { exitCode, stdout } = await run('health');
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/^agent +no +does not answer on its socket$/m);
  expect(await json('health')).toMatchObject({
    schema: 'qx-update.health/1',
    healthy: false,
    probes: expect.arrayContaining([expect.objectContaining({ name: '10-pool', ok: true, detail: 'switched off' })]),
  });
});

test('only root may, on this machine', async () => {
  for (const verb of [['token', 'show'], ['token', 'rotate'], ['log'], ['config', 'check'], ['mark', 'good']]) {
    const { exitCode, stderr } = await runInProcess(verb, { isRoot: false });
    expect([verb, exitCode, stderr]).toEqual([verb, 5, expect.stringContaining('run it as root')]);
  }
});

test('settings are checked without the agent: what counts, and which file says so', async () => {
  const { path, write, run, json } = await alone(['channel: stable']);
  await write('etc/limiquantix/node.d/50-site.yaml', 'updates:\n  auto_apply: true\n');
  expect(await json('config', 'check')).toMatchObject({
    schema: 'qx-update.config/1',
    channel: 'stable',
    autoApply: true,
    origins: { channel: `/${SETTINGS}`, auto_apply: '/etc/limiquantix/node.d/50-site.yaml' },
  });
  expect((await run('config', 'check')).stdout).toMatch(/^auto_reboot=false +default$/m);
  await write('etc/limiquantix/node.d/60-wrong.yaml', 'updates:\n  auto_aply: true\n');
  expect(await run('config', 'check')).toMatchObject({
    exitCode: 2,
    stderr: expect.stringMatching(/60-wrong\.yaml.*auto_aply.*\[CONFIG_INVALID\]/),
  });
  const file = join(path, 'one.yaml');
  await writeFile(file, 'updates:\n  channel: beta\n');
  expect(await json('config', 'check', file)).toMatchObject({ channel: 'beta', autoApply: false });
  await writeFile(file, 'updates: {channel: 7}\n');
  expect(await run('config', 'check', file)).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('channel') });
});

test('settings are changed by the names of node.yaml, and the changes are taken back', async () => {
  const { path, run, json, events } = await alone();
  const windows = 'maintenance_windows=[{start: "02:00", end: "05:00"}]';
  const set = await run(
    'config',
    'set',
    'mirrors=[https://a.example]',
    windows,
    'check_interval=2h',
    'auto_apply=true',
  );
  expect(set).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('next start') });
  const expected = {
    mirrors: ['https://a.example'],
    checkInterval: '2h',
    autoApply: true,
    maintenanceWindows: [{ start: '02:00', end: '05:00' }],
  };
  expect(await json('config', 'check')).toMatchObject(expected);
  expect(await json('config', 'unset', 'mirrors', 'auto_apply')).toMatchObject({
    ...expected,
    mirrors: [],
    autoApply: false,
  });
  expect(await readFile(join(path, 'quantix/limiquantix/node.yaml'), 'utf8')).not.toContain('mirrors');
  expect(await events()).toMatchObject([
    {
      event: 'settings_changed',
      actor: 'root at the command line',
      fields: { autoApply: 'true', checkInterval: '"2h"' },
    },
    { event: 'settings_changed', fields: { mirrors: 'null', autoApply: 'null' } },
  ]);
});

test.each([
  [['set', 'auto_aply=true'], 'did you mean auto_apply?'],
  [['unset', 'chanel'], 'did you mean channel?'],
  [['set', 'zzzzzzzzz=1'], 'known are enabled, server_url'],
  [['set', 'listen=off'], 'node.yaml'],
  [['set', 'channel'], 'is no KEY=VALUE'],
  [['set', 'channel='], 'config unset channel'],
  [['set', 'channel=dev', 'channel=beta'], 'given twice'],
  [['set', 'auto_apply=perhaps'], 'auto_apply must be boolean'],
  [['set', 'mirrors=[https://a'], 'is no YAML'],
  [['set', 'channel=%%%'], /^the value of channel is no YAML: Missing .*\n/],
  [['set', 'channel=*anchor'], 'is no YAML'],
  [['set', 'channel=!mine dev'], 'is no YAML'],
  [['set', 'storage_location=volume'], 'needs volume_path'],
])('config %j changes nothing and says why', async (args, why) => {
  const { run, events } = await alone();
  expect(await run('config', ...args)).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(why) });
  expect(await events()).toEqual([]);
});

test('what is refused at the command line is recorded once, and nothing to do is not', async () => {
  const { run, events } = await alone();
  expect((await run('rollback')).exitCode).toBe(3);
  expect((await run('confirm')).exitCode).toBe(3);
  expect(await events()).toEqual([]);
  expect((await run('mark', 'bad')).exitCode).toBe(5);
  expect(await events()).toMatchObject([
    { event: 'request_refused', code: 'SLOT_RUNNING', actor: 'root at the command line', fields: { verb: 'mark' } },
  ]);
});

test('the audit log is shown, limited and verified also where the settings are broken', async () => {
  const { path, write, run, json } = await alone();
  for (let i = 0; i < 3; i++) await run('token', 'rotate');
  await write(SETTINGS, 'updates: [');
  expect((await json('log', '--limit', '2')).events.map(({ seq }: { seq: number }) => seq)).toEqual([2, 3]);
  expect((await run('log')).stdout).toMatch(/^AT +EVENT +BY +WHAT\n.*token rotated +root at the command line/);
  expect(await run('log', '--verify')).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('3 events') });

  const segment = join(path, 'quantix/limiquantix/audit/audit-000000000001.jsonl');
  const lines = (await readFile(segment, 'utf8')).split('\n');
  await writeFile(segment, lines.with(1, (lines[1] ?? '').replace('root', 'nobody')).join('\n'));
  const broken = expect.stringContaining('audit-000000000001.jsonl line 2');
  expect(await run('log')).toMatchObject({ exitCode: 0, stderr: broken });
  const verified = await run('log', '--verify', '--json');
  expect(verified).toMatchObject({ exitCode: 7, stderr: broken });
  expect(JSON.parse(verified.stdout)).toMatchObject({
    schema: 'qx-update.log/1',
    verdict: { ok: false, broken: { line: 2 } },
  });
});
