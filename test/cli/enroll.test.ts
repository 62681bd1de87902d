import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test, vi } from 'vitest';
import { hostFolder, qxUpdate, startAgent } from '../support/agent.ts';
import { built } from '../support/built.ts';
import { enrolled, fleetBench } from '../support/fleet.ts';
import { joinString } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/** qx-update enroll, as an administrator types it, to a real server. */

vi.setConfig({ testTimeout: 120_000 });

const bench = async () => fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
const enroll = (root: string, ...args: readonly string[]) => qxUpdate(root, 'enroll', ...args);

test('makes the host a member, says what follows, and says it as a document', async () => {
  const fleet = await bench();
  const host = await hostFolder(['server_url: https://cdn.example.org']);
  const said = await enroll(host.path, await joinString(fleet, 'qhci-01'));
  expect(said).toMatchObject({
    exitCode: 0,
    stdout: `This host is qhci-01 in the fleet of ${fleet.origin}, and fetches its releases from https://cdn.example.org as before, the server_url of /etc/limiquantix/node.yaml.`,
  });
  const again = await enroll(host.path, await joinString(fleet, 'qhci-02'), '--again', '--json');
  expect(JSON.parse(again.stdout)).toMatchObject({
    schema: 'qx-update.enroll/1',
    node_id: 'qhci-02',
    server: fleet.origin,
  });
  expect((await stat(join(host.path, 'quantix/limiquantix/fleet.json'))).mode & 0o777).toBe(0o600);
});

test('a host that was told of no server fetches its releases there from then on, and its agent hears it at once', async () => {
  const fleet = await bench();
  const host = await hostFolder([]);
  await startAgent(host.path);
  const said = await enroll(host.path, await joinString(fleet, 'qhci-01'));
  expect(said.stdout).toContain('and fetches its releases there.');
  const shown = (await qxUpdate(host.path, 'config', 'show')).stdout;
  expect(shown).toMatch(new RegExp(`^server_url=${fleet.origin} +/quantix/limiquantix/fleet.json$`, 'm'));
  expect((await qxUpdate(host.path, 'log')).stdout).toContain('fleet joined');
  expect((await qxUpdate(host.path, 'status')).stdout).toMatch(new RegExp(`^Fleet +qhci-01 at ${fleet.origin}$`, 'm'));
});

test('a second fleet takes the place of the first, and what an operator wrote stays', async () => {
  const [first, second] = [await bench(), await bench()];
  const host = await hostFolder([]);
  await startAgent(host.path);
  const server = async () => JSON.parse((await qxUpdate(host.path, 'config', 'show', '--json')).stdout).serverUrl;
  await enroll(host.path, await joinString(first, 'qhci-01'));
  expect(await server()).toBe(first.origin);
  await enroll(host.path, await joinString(second, 'qhci-01'), '--again');
  expect(await server()).toBe(second.origin);
  await qxUpdate(host.path, 'config', 'set', `server_url=${second.origin}`);
  await qxUpdate(host.path, 'leave');
  expect(await server()).toBe(second.origin);
});

test('a file of the fleet that is damaged does not keep the host from saying how it is', async () => {
  const host = await hostFolder([]);
  await startAgent(host.path);
  await host.write('quantix/limiquantix/fleet.json', '{', 0o600);
  expect(await qxUpdate(host.path, 'status')).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('idle') });
  expect((await qxUpdate(host.path, 'config', 'show')).stdout).toMatch(/^server_url=null +\/quantix.*fleet\.json$/m);
});

test('takes the join string from stdin, where it is in no list of processes', async () => {
  const fleet = await bench();
  const host = await hostFolder([]);
  const input = `${await joinString(fleet, 'qhci-01')}\n`;
  const args = ['--root', host.path, 'enroll', '-'];
  const { exitCode, stdout } = await execa(built('qx-update'), args, { input, reject: false });
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining('This host is qhci-01')]);
});

test('waits for an operator where the invitation says so, and names the key to compare', async () => {
  const fleet = await bench();
  const host = await hostFolder([]);
  const { exitCode, stderr } = await enroll(host.path, await joinString(fleet, 'qhci-01', { needs_approval: true }));
  expect([exitCode, stderr]).toEqual([
    5,
    expect.stringMatching(/qx-fleet node approve qhci-01 --fingerprint [0-9a-f]{64}/),
  ]);
});

test.each([
  ['what is no join string', async () => 'qx1.secret-that-must-not-be-shown', 2, 'BAD_REQUEST'],
  [
    'a server that is not there',
    async () => `qx1.abcdefgh.${'s'.repeat(26)}.${'A'.repeat(43)}.127.0.0.1:9`,
    9,
    'SERVER_UNREACHABLE',
  ],
  [
    'an invitation that another host has used',
    async () => {
      const fleet = await bench();
      const join = await joinString(fleet, 'qhci-01');
      await enroll((await hostFolder([])).path, join);
      return join;
    },
    5,
    'INVITE_REFUSED',
  ],
])('%s is refused, with what to do next and without the secret', async (_what, makeJoin, code, name) => {
  const host = await hostFolder([]);
  const join = await makeJoin();
  const { exitCode, stderr, stdout } = await enroll(host.path, join);
  expect([exitCode, stderr]).toEqual([code, expect.stringContaining(`[${name}]`)]);
  expect(stdout + stderr).not.toContain(join.split('.')[2] ?? join);
  await expect(readFile(`${host.path}/quantix/limiquantix/fleet.json`)).rejects.toThrow('ENOENT');
});

test('a member is told so, and stays what it is', async () => {
  const fleet = await bench();
  await enrolled(fleet, 'qhci-00');
  const host = await hostFolder([]);
  await enroll(host.path, await joinString(fleet, 'qhci-01'));
  const { exitCode, stderr } = await enroll(host.path, await joinString(fleet, 'qhci-02'));
  expect([exitCode, stderr]).toEqual([3, expect.stringContaining('this host is qhci-01 in the fleet of')]);
});

test('leaves, and keeps nothing of it', async () => {
  const fleet = await bench();
  const host = await hostFolder([]);
  await enroll(host.path, await joinString(fleet, 'qhci-01'));
  const left = await qxUpdate(host.path, 'leave');
  expect(left).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('qx-fleet node revoke qhci-01') });
  await expect(readFile(`${host.path}/quantix/limiquantix/fleet.json`)).rejects.toThrow('ENOENT');
  expect(left.stdout).toContain('fetches its releases from http://localhost:9000 now');
  expect(await qxUpdate(host.path, 'leave')).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining('in no fleet'),
  });
});

test('a copy of its disk says that it is another host, in words, with a code, and by which verbs it goes on', async () => {
  const fleet = await bench();
  const host = await hostFolder([]);
  const made = {
    'sys/class/dmi/id/product_uuid': '4c4c4544-0043-3510-8051-b4c04f4a4e31',
    'sys/class/dmi/id/board_serial': 'CN7475',
  };
  for (const [path, text] of Object.entries(made)) await host.write(path, `${text}\n`);
  expect((await enroll(host.path, await joinString(fleet, 'qhci-01'))).exitCode).toBe(0);
  expect(await qxUpdate(host.path, 'identity', 'show')).toMatchObject({ exitCode: 0 });
  // The same folder with the hardware of another machine around it.
  for (const [path, text] of Object.entries(made)) await host.write(path, `${text.slice(0, -1)}9\n`);
  await startAgent(host.path);
  const said = await qxUpdate(host.path, 'status');
  expect(said.stdout).toMatch(/^Status +error$/m);
  expect(said.stdout).toMatch(
    /^Identity .*made on another machine.*\[MACHINE_DIFFERS\]\n +next: .*qx-update enroll JOIN.*identity keep/m,
  );
  expect(JSON.parse((await qxUpdate(host.path, 'status', '--json')).stdout)).toMatchObject({
    status: 'error',
    identity: { code: 'MACHINE_DIFFERS', next: expect.stringContaining('qx-update identity keep') },
  });
  const shown = await qxUpdate(host.path, 'identity', 'show');
  expect([shown.exitCode, shown.stdout]).toEqual([5, expect.stringMatching(/^board +CN7475 +CN7479$/m)]);
  expect(await qxUpdate(host.path, 'identity', 'keep')).toMatchObject({ exitCode: 2 });
  expect(await qxUpdate(host.path, 'identity', 'keep', '--reason', 'new main board')).toMatchObject({ exitCode: 0 });
  expect(JSON.parse((await qxUpdate(host.path, 'status', '--json')).stdout).identity).toBeUndefined();
  expect(await qxUpdate(host.path, 'identity', 'keep', '--reason', 'again')).toMatchObject({ exitCode: 3 });
});
