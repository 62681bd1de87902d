import { describe, expect, test } from 'vitest';
import { currentBoot } from '../src/agent/bootenv.ts';
import type { Host } from '../src/agent/host.ts';
import { markSlot } from '../src/agent/mark.ts';
import { reset } from '../src/agent/reset.ts';
import { rollback } from '../src/agent/rollback.ts';
import { loadJournal, saveJournal } from '../src/agent/store.ts';
import { composeHost } from '../src/cli/serve.ts';
import { armTrial, freshState, type SLOT_TABLE } from '../src/core/boot.ts';
import type { Verdict } from '../src/core/boot-verdict.ts';
import { isSettled } from '../src/core/update.ts';
import { NODE_ROUTES } from '../src/format/fleet-routes.ts';
import { encodeBoot } from '../src/format/grubenv.ts';
import type { Memory, Phase } from '../src/format/journal.ts';
import { ACTIVE_STATES, MAINTENANCE_STATES, type MaintenanceState } from '../src/format/maintenance.ts';
import { MAINTENANCE_ROUTES } from '../src/format/maintenance-routes.ts';
import { PLACE_ROUTES } from '../src/format/place-routes.ts';
import { NOTHING_YET } from '../src/server/maintenance.ts';
import type { NodeTable, Tables } from '../src/server/store.ts';
import { hostFolder } from './support/agent.ts';
import { recordedLog } from './support/fakes.ts';
import { enrolled, type FleetBench, fleetBench, invited } from './support/fleet.ts';
import { fleetTool } from './support/fleet-tools.ts';
import { runInProcess } from './support/host-tools.ts';
import { sampleJournal } from './support/journal.ts';
import { hostKey } from './support/node-keys.ts';
import { temporaryFolder } from './support/temp.ts';

/**
 * Whatever a host or a server can come to stay in, a person can leave by a verb. The tables below name it for each state; the compiler
 * refuses a state that has none, and what can be tried is tried here, in that state.
 */

/** It ends, or goes on, without anybody: with the next start, check or round. */
const ITSELF = 'by itself';

const PHASES: Record<Phase, string> = {
  idle: ITSELF,
  fetching: 'qx-update reset',
  writing: 'qx-update reset',
  applying: 'qx-update reset',
  undoing: 'qx-update reset',
  rollingBack: 'qx-update reset',
  armed: 'qx-update rollback',
  trial: 'qx-update mark',
  complete: 'qx-update rollback',
  failed: 'qx-update reset',
  rolledBack: 'qx-update reset',
};

const VERDICT_WAYS: Record<Verdict, string> = {
  nothing: ITSELF,
  'slot-untouched': ITSELF,
  'slot-unfinished': ITSELF,
  'arm-again': ITSELF,
  'waiting-for-reboot': 'qx-update rollback',
  trial: 'qx-update confirm',
  'already-good': ITSELF,
  'rolled-back': ITSELF,
  foreign: 'qx-update mark',
  // Until it is booted through the grub.cfg of Quantix-OS: `mark` takes the slot by its name.
  'not-our-boot': 'qx-update mark',
  'env-lost': ITSELF,
};

const SLOT_WAYS: Record<keyof typeof SLOT_TABLE, string> = {
  empty: 'qx-update apply',
  trial: 'qx-update mark',
  good: 'qx-update mark',
};

const MEMORY: Record<keyof Memory, string> = {
  format: 'qx-update reset',
  high_water: 'qx-update reset',
  // Never lowered, by anybody: a newer release leads on.
  floor: 'qx-update apply',
  committed: 'qx-update rollback',
  committed_before: 'qx-update rollback',
  bad: 'qx-update apply',
  slots: 'qx-update apply',
  held: 'qx-update unhold',
};

const MAINTENANCE_WAYS: Record<MaintenanceState, string> = {
  none: ITSELF,
  requested: 'qx-fleet maintenance cancel',
  draining: 'qx-fleet maintenance cancel',
  ready: 'qx-fleet maintenance cancel',
  updating: 'qx-fleet place release',
  rebooting: 'qx-fleet place release',
  verifying: 'qx-fleet place release',
  completed: ITSELF,
  failed: 'qx-fleet maintenance cancel',
  cancelled: ITSELF,
};

const NODE_WAYS: Record<NodeTable['state'], string> = {
  pending: 'qx-fleet node approve',
  enrolled: 'qx-fleet node revoke',
  revoked: 'qx-fleet node invite',
};

const TABLES: Record<keyof Tables, string> = {
  node: 'qx-fleet node revoke',
  node_domain: 'qx-fleet node revoke',
  node_certificate: 'qx-fleet node revoke',
  node_boot: 'qx-fleet node resolve',
  node_conflict: 'qx-fleet node resolve',
  node_invite: 'qx-fleet node uninvite',
  operator: 'qx-fleet operator revoke',
  maintenance: 'qx-fleet maintenance cancel',
  place: 'qx-fleet place release',
  place_domain: 'qx-fleet place release',
  budget: 'qx-fleet budget unset',
  outbox: 'qx-fleet order drop',
  gate: ITSELF,
  audit: 'qx-fleet audit accept',
  audit_head: 'qx-fleet audit accept',
  audit_seal: 'qx-fleet audit accept',
  audit_sealer: ITSELF,
};

const ALL = [PHASES, VERDICT_WAYS, SLOT_WAYS, MEMORY, MAINTENANCE_WAYS, NODE_WAYS, TABLES];
const verbs = [...new Set(ALL.flatMap((table) => Object.values(table)))].filter((verb) => verb !== ITSELF);

test.each(verbs)('there is a verb %s, and it shows how it is used', async (verb) => {
  const [program, ...words] = verb.split(' ');
  const { exitCode, stdout } =
    program === 'qx-fleet' ? await fleetTool([...words, '--help']) : await runInProcess([...words, '--help']);
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining(`Examples:\n  ${verb}`)]);
});

describe('on a host', () => {
  /** A runs, unless the trial of B does; the last update is in this phase. */
  async function hostIn(phase: Phase): Promise<Host> {
    const { path, write } = await hostFolder();
    const hasBegun = phase === 'armed' || phase === 'trial';
    const state = hasBegun ? armTrial(freshState('A'), 'B', sampleJournal.id) : freshState('A');
    const env = new TextDecoder().decode(encodeBoot(state, null));
    for (const copy of ['grubenv', 'grubenv.bak']) await write(`boot/grub/${copy}`, env);
    const trial = phase === 'trial' ? ` quantix.trial=${sampleJournal.id}` : '';
    await write('proc/cmdline', `quantix.slot=${phase === 'trial' ? 'B' : 'A'} quantix.env=grubenv${trial}\n`);
    const host = await composeHost(path, { log: recordedLog() });
    const image = hasBegun || phase === 'writing' ? sampleJournal.image : null;
    await saveJournal(host, { ...sampleJournal, phase, image, pending: hasBegun, components: [] });
    return host;
  }

  const DO: Readonly<Record<string, (host: Host) => Promise<unknown>>> = {
    'qx-update reset': (host) => reset(host, { downloads: false, seen: false }, 'root'),
    'qx-update rollback': (host) => rollback(host, 'a test'),
    'qx-update mark': (host) => markSlot(host, 'bad', 'B'),
  };

  test.each(Object.entries(PHASES).filter(([, verb]) => verb !== ITSELF))(
    'an update that is %s is left by %s',
    async (phase, verb) => {
      const host = await hostIn(phase as Phase);
      await DO[verb]?.(host);
      const after = await loadJournal(host);
      // One that is given up while it runs is finished by the other slot.
      const isOver = after !== null && (after.phase !== phase || after.dismissed === true) && isSettled(after.phase);
      expect([isOver || phase === 'trial', (await currentBoot(host))?.trial]).toEqual([true, '']);
    },
  );
});

describe('on a server', () => {
  const bench = async () => fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });

  async function hostIn(fleet: FleetBench, state: MaintenanceState): Promise<void> {
    const { id } = await enrolled(fleet, 'a');
    const asked = {
      id: 'm1',
      node_id: id,
      ordinal: 1,
      fleet_group: 'default',
      target_version: '2.0.0',
      requested_ms: 0,
    };
    const row = { ...NOTHING_YET, ...asked, update_type: 'full' as const, requires_reboot: 1, epoch: 1, state };
    await fleet.store.change(async (change) => {
      await change.insertInto('maintenance').values(row).execute();
      if (state === 'requested') return;
      await change
        .insertInto('place')
        .values({ holder: `node:${id}`, granted_ms: 0, heard_ms: null })
        .execute();
    });
  }

  const DO: Readonly<Record<string, (fleet: FleetBench) => Promise<{ status: number }>>> = {
    'qx-fleet maintenance cancel': (fleet) =>
      fleet.root(MAINTENANCE_ROUTES.cancelMaintenance, { params: { nodeId: 'a' } }),
    'qx-fleet place release': (fleet) =>
      fleet.root(PLACE_ROUTES.releasePlace, { body: { holder: 'a', reason: 'a test' } }),
  };

  test.each(MAINTENANCE_STATES.filter((state) => MAINTENANCE_WAYS[state] !== ITSELF))(
    'a maintenance that is %s is left by its verb, and another host may go',
    async (state) => {
      const fleet = await bench();
      await hostIn(fleet, state);
      expect(await DO[MAINTENANCE_WAYS[state]]?.(fleet)).toMatchObject({ status: 200 });
      const { json } = await fleet.root(MAINTENANCE_ROUTES.maintenanceStatus, { params: { nodeId: 'a' } });
      expect(ACTIVE_STATES).not.toContain(json.state);
      expect((await fleet.root(PLACE_ROUTES.places)).json).toMatchObject({ count: 0 });
    },
  );

  test('a host that waits, is a member, or was put out, is each of them by a verb', async () => {
    const fleet = await bench();
    const key = hostKey();
    const body = key.enrolBy(await invited(fleet, 'a', { needs_approval: true }));
    const { json } = await fleet.call({}, NODE_ROUTES.enroll, { body });
    const fingerprint = { key_fingerprint: String(json.key_fingerprint) };
    const approved = await fleet.root(NODE_ROUTES.approveNode, { params: { node: 'a' }, body: fingerprint });
    expect(approved.json).toMatchObject({ state: 'enrolled' });
    const revoked = await fleet.root(NODE_ROUTES.revokeNode, { params: { node: 'a' }, body: { reason: 'a test' } });
    expect(revoked.json).toMatchObject({ state: 'revoked' });
    expect(await enrolled(fleet, 'a')).toMatchObject({ name: 'a' });
  });

  test('an operator who lost his token, and the last admin, are replaced by root on the server', async () => {
    const fleet = await bench();
    const add = () => fleet.root(NODE_ROUTES.addOperator, { body: { name: 'alice', role: 'admin' } });
    const first = (await add()).json.token;
    expect((await add()).json).toMatchObject({ code: 'NAME_TAKEN', next: 'qx-fleet operator revoke alice first' });
    await fleet.root(NODE_ROUTES.revokeOperator, { params: { operator: 'alice' } });
    const second = (await add()).json.token;
    expect(second).not.toBe(first);
    expect((await fleet.call({ token: String(first) }, NODE_ROUTES.nodes)).status).toBe(401);
    expect((await fleet.call({ token: String(second) }, NODE_ROUTES.nodes)).status).toBe(200);
  });
});
