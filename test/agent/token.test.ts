import { chmod, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { currentToken, prepareToken, rotateToken, showToken } from '../../src/agent/token.ts';
import { hostFiles } from '../../src/system/files.ts';
import { refusal } from '../support/documents.ts';
import { recordedLog } from '../support/fakes.ts';
import { temporaryFolder } from '../support/temp.ts';

async function setUp() {
  const folder = await temporaryFolder();
  const path = join(folder, 'quantix/limiquantix/api-token');
  const machine = { files: hostFiles(folder), log: recordedLog() };
  const put = async (text: string, mode = 0o600) => {
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, text, { mode });
    await chmod(path, mode);
  };
  return { path, put, ...machine, machine };
}

test('the first start makes a token that only its owner can read, and later ones keep it', async () => {
  const { machine, path, files } = await setUp();
  await prepareToken(machine);
  const token = await showToken(files);
  expect(Buffer.from(token, 'base64url')).toHaveLength(32);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await prepareToken(machine);
  expect(await currentToken(machine)).toBe(token);
  expect(JSON.stringify(machine.log.lines)).not.toContain(token);
});

test('a rotation counts from the next look on, and leaves nothing of the old token behind', async () => {
  const { machine, path, files } = await setUp();
  await prepareToken(machine);
  const old = await showToken(files);
  const token = await rotateToken(files);
  expect(token).not.toBe(old);
  expect(await currentToken(machine)).toBe(token);
  expect(await readFile(path, 'utf8')).toBe(`${token}\n`);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await files.list('/quantix/limiquantix')).toEqual(['api-token']);
});

test.each([
  ['too short', 'changeme\n', 0o600],
  ['empty', '', 0o600],
  ['no text', '\x00'.repeat(64), 0o600],
  ['two of them', `${'a'.repeat(40)}\n${'b'.repeat(40)}\n`, 0o600],
  ['too large', 'x'.repeat(5000), 0o600],
  ['readable by others', 'x'.repeat(40), 0o644],
  ['readable by the group', 'x'.repeat(40), 0o640],
])(
  'a token file that is %s while the agent runs counts for nothing, and the log says so',
  async (_what, text, mode) => {
    const { machine, put, log } = await setUp();
    await put(text, mode);
    expect(await currentToken(machine)).toBeNull();
    expect(log.lines).toEqual([expect.objectContaining({ level: 'warn' })]);
    expect(JSON.stringify(log.lines)).not.toMatch(/changeme|xxxxx/);
  },
);

test('a token file that vanished, or was replaced by a link, counts for nothing', async () => {
  const { machine, path, put, files } = await setUp();
  expect(await currentToken(machine)).toBeNull();
  expect(await refusal(() => showToken(files))).toBe('NOT_FOUND');
  await put('x'.repeat(40));
  const other = `${path}.other`;
  await writeFile(other, 'y'.repeat(40), { mode: 0o600 });
  await files.remove('/quantix/limiquantix/api-token');
  await symlink(other, path);
  expect(await currentToken(machine)).toBeNull();
});

test('one that others could read is closed at the start, with a warning', async () => {
  const { machine, path, put, log } = await setUp();
  await put('x'.repeat(40), 0o644);
  await prepareToken(machine);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(log.lines).toMatchObject([{ level: 'warn', event: 'api_token_was_readable' }]);
});
