import { chmod, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { FETCH_ID } from '../../src/system/fetch/rights.ts';
import { type HostFolder, hostFolder, qxUpdate, releaseServer, startAgent } from '../support/agent.ts';
import { requires } from '../support/requires.ts';

/** With the umask of whoever runs the tests, and not the 077 of the agent's service: modes are the agent's own doing. */

const NEEDS = { root: true, commands: ['setpriv', 'find', 'grep'] };

/** What below these folders a user without rights finds with the given test of find(1). */
async function foundByOthers({ path }: HostFolder, ...tests: readonly string[]): Promise<readonly string[]> {
  // A test's folder is closed to others, which a host's root folder is not.
  await chmod(dirname(path), 0o755);
  const user = [`--reuid=${FETCH_ID}`, `--regid=${FETCH_ID}`, '--clear-groups', 'find'];
  const folders = ['quantix', 'data/updates', 'run/quantix'];
  const { stdout } = await execa('setpriv', [...user, ...folders, ...tests], { cwd: path, reject: false });
  return stdout.split('\n').filter((line) => line !== '');
}

requires(NEEDS)('T44 after an update, a user without rights', () => {
  test('reads no state, no token, no key, no download and no backup, and writes nowhere', {
    timeout: 240_000,
  }, async () => {
    const server = await releaseServer();
    const host = await hostFolder(server.settings);
    await server.trustIn(host);
    const agent = await startAgent(host.path);
    const applied = await qxUpdate(host.path, 'apply');
    expect(applied).toMatchObject({ exitCode: 0 });

    const state = ['quantix/limiquantix/state.json', 'quantix/ab-update-state.json', 'quantix/limiquantix/tls.key'];
    for (const file of state) expect(await readFile(join(host.path, file), 'utf8')).not.toBe('');
    const readable = await foundByOthers(host, '-type', 'f', '-readable');
    // Names of what runs and of what forbids a reboot are for everybody.
    expect(readable.filter((file) => !file.startsWith('run/quantix/'))).toEqual([]);
    const backups = await readdir(join(host.path, 'data/updates/backup/qx-console'));
    expect(backups).toHaveLength(1);
    for (const folder of [
      'quantix/limiquantix',
      'data/updates/staging',
      `data/updates/backup/qx-console/${backups[0]}`,
    ]) {
      expect([folder, (await stat(join(host.path, folder))).mode & 0o777]).toEqual([folder, 0o700]);
    }
    expect(await foundByOthers(host, '-writable', '-not', '-type', 'l')).toEqual([]);

    const token = (await readFile(join(host.path, 'quantix/limiquantix/api-token'), 'utf8')).trim();
    expect(agent.output()).not.toContain(token);
    // Nor is either secret in a backup, or in anything else that an update leaves behind.
    const key = (await readFile(join(host.path, 'quantix/limiquantix/tls.key'), 'utf8')).split('\n')[1] ?? '';
    const holders = await execa('grep', ['-rlF', '-e', token, '-e', key, 'data', 'quantix'], { cwd: host.path });
    expect(holders.stdout.split('\n').sort()).toEqual(
      ['api-token', 'tls.key'].map((name) => `quantix/limiquantix/${name}`),
    );
  });
});
