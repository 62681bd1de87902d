import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { badServer, serveWhole } from '../support/bad-server.ts';
import { operatorToken, SITE } from '../support/fleet.ts';
import { fleetTool } from '../support/fleet-tools.ts';
import { plannedFleet } from '../support/planned-fleet.ts';
import { document } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

const HOSTS = [
  { name: 'qhci-01', room: 4 },
  { name: 'qhci-02', room: 2 },
];

async function setUp() {
  const bench = await plannedFleet(`sqlite:${await temporaryFolder()}/fleet.db`, HOSTS);
  const onSocket = (...args: readonly string[]) => fleetTool(['drain-plan', ...args, '--socket', bench.fleet.socket]);
  return { ...bench, onSocket };
}

test('shows where each VM would go, what blocks, and how long it takes', async () => {
  const { plane, drained, onSocket } = await setUp();
  await plane.run('qhci-01', 'web-1');
  await plane.run('qhci-01', 'gpu-1', 'a GPU is passed through');
  await drained('qhci-01', { seconds: 300, vms: 4 });
  const { exitCode, stdout, stderr } = await onSocket('qhci-01');
  expect([exitCode, stderr]).toEqual([0, '']);
  expect(stdout).toBe(
    [
      'host         qhci-01, group default',
      'maintenance  none, the last one is cancelled',
      'place        one is free now',
      'drained by   control-plane',
      'drain        1 of 2 VMs would move; it does not become empty before what blocks is gone',
      'expected     3 min, from 1 past drain of this host',
      '',
      'VM     MOVES TO  WHY',
      'web-1  qhci-02',
      'gpu-1  -         a GPU is passed through',
      '',
      'BLOCKS  WHY',
      'gpu-1   a GPU is passed through',
      '',
    ].join('\n'),
  );
  expect(plane.taken).toEqual([]);
});

test('is one document with --json, for an operator over the network too', async () => {
  const { fleet, plane } = await setUp();
  await plane.run('qhci-01', 'web-1');
  const ca = join(fleet.folder, 'site.crt');
  await writeFile(ca, SITE.ca);
  const env = { QX_FLEET_TOKEN: await operatorToken(fleet, 'eve', 'viewer') };
  const ran = await fleetTool(['drain-plan', 'qhci-01', '--server', fleet.origin, '--ca', ca, '--json'], env);
  expect(document(ran)).toEqual({
    schema: 'qx-fleet.drain-plan/1',
    node_id: 'qhci-01',
    group: 'default',
    state: 'none',
    place: 'free',
    drain_by: 'control-plane',
    control_plane: 'answered',
    message: '1 of 1 VMs would move',
    vms: [{ vm: 'web-1', target_node: 'qhci-02' }],
    blocks: [],
    expected_seconds: null,
    past_drains: 0,
  });
});

test('says what it waits for, and what it does not know', async () => {
  const { plane, ask, onSocket } = await setUp();
  await ask('qhci-02');
  await plane.goDown();
  const { exitCode, stdout } = await onSocket('qhci-01');
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^place +none is free: group:default has 1 away, at most 1 may be$/m);
  expect(stdout).toMatch(/^drain +The control plane gave no plan: .*127\.0\.0\.1.*$/m);
  expect(stdout).toMatch(/^expected +not known: neither this host nor one of its group was drained yet\n$/m);
});

test('a host that is not there, and words that are none', async () => {
  const { plane, onSocket } = await setUp();
  const unknown = await onSocket('qhci-99');
  expect([unknown.exitCode, unknown.stderr]).toEqual([1, expect.stringContaining('[NODE_UNKNOWN]')]);
  const asJson = await onSocket('qhci-99', '--json');
  expect(document(asJson)).toMatchObject({ schema: 'qx-fleet.error/1', verb: 'drain-plan', code: 'NODE_UNKNOWN' });
  for (const words of [[], ['../etc'], ['QHCI-01'], ['qhci-01', 'qhci-02']]) {
    expect([words, (await onSocket(...words)).exitCode]).toEqual([words, 2]);
  }
  expect(plane.planned).toEqual([]);
});

test('the terminal is not steered, not even by a server that passes on what it was told', async () => {
  const evil = 'vm\u001b]0;owned\u0007\nBLOCKS forged\u009b2J\u202e';
  const lists = { vms: [{ vm: evil, target_node: evil, reason: evil }], blocks: [{ vm: evil, reason: evil }] };
  const plan = { node_id: evil, group: evil, state: evil, place: 'taken', waits_for: evil, drain_by: evil };
  const rest = {
    control_plane: 'answered',
    message: evil,
    expected_seconds: 1,
    past_drains: 1,
    past_drains_of: 'host',
  };
  const server = await badServer(serveWhole(Buffer.from(JSON.stringify({ ...plan, ...rest, ...lists }))));
  const ran = await fleetTool(['drain-plan', 'qhci-01', '--server', server.url], { QX_FLEET_TOKEN: 'qxo_a' });
  expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
  expect(ran.stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u{202a}-\u{202e}]/u);
  expect(ran.stdout).not.toMatch(/^BLOCKS forged/m);
});

test('its help has examples, and the shells offer it', async () => {
  const help = await fleetTool(['drain-plan', '--help']);
  expect(help.stdout).toContain('Changes nothing.');
  expect(help.stdout).toContain('Examples:\n  qx-fleet drain-plan qhci-01\n');
  expect((await fleetTool(['completion', 'bash'])).stdout).toContain('drain-plan');
  expect((await fleetTool(['--help'])).stdout).toMatch(/\n {2}drain-plan .*without one\n/);
});
