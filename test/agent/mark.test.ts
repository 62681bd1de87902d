import { describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { currentBoot } from '../../src/agent/bootenv.ts';
import type { Host } from '../../src/agent/host.ts';
import { type Mark, type MarkTarget, markSlot } from '../../src/agent/mark.ts';
import { slotTable } from '../../src/agent/slots.ts';
import { saveJournal, saveMemory } from '../../src/agent/store.ts';
import { composeHost } from '../../src/cli/serve.ts';
import { armTrial, type BootState, freshState, markGood } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import { EMPTY_MEMORY } from '../../src/format/journal.ts';
import { hostFolder } from '../support/agent.ts';
import { recordedLog } from '../support/fakes.ts';
import { sampleJournal } from '../support/journal.ts';

/** On real files. A runs, unless said otherwise, and a release was once written to B. */

const ONLY_A = freshState('A');
const BOTH: BootState = { ...ONLY_A, B: { ok: true, tries: 0 } };
const B_ON_TRIAL = armTrial(ONLY_A, 'B', sampleJournal.id);
const CONTENT = { version: '1.1.0', sha256: 'b'.repeat(64), written_at: '2026-11-02T00:00:00Z' };

async function hostWith(state: BootState, options: { runs?: 'A' | 'B'; written?: boolean } = {}): Promise<Host> {
  const { path, write } = await hostFolder();
  const { runs = 'A', written = true } = options;
  await write('proc/cmdline', `quantix.slot=${runs} quantix.env=grubenv\n`);
  for (const copy of ['grubenv', 'grubenv.bak']) {
    await write(`boot/grub/${copy}`, new TextDecoder().decode(encodeBoot(state, null)));
  }
  const host = await composeHost(path, { log: recordedLog() });
  await host.files.makeDirectory('/quantix/limiquantix');
  if (written) await saveMemory(host, { ...EMPTY_MEMORY, slots: { A: null, B: CONTENT } });
  return host;
}

const ok = (state: BootState | null) => state && { A: state.A.ok, B: state.B.ok, next: state.order[0] };

describe('marking a slot', () => {
  test.each<[string, BootState, Mark, MarkTarget, object, object]>([
    ['the running one good', ONLY_A, 'good', 'booted', { kind: 'marked', slot: 'A' }, { A: true, B: false, next: 'A' }],
    ['the other good', ONLY_A, 'good', 'other', { kind: 'marked', slot: 'B' }, { A: true, B: true, next: 'A' }],
    ['the other bad', BOTH, 'bad', 'other', { kind: 'marked', slot: 'B' }, { A: true, B: false, next: 'A' }],
    ['the running one bad', BOTH, 'bad', 'A', { kind: 'reboot_required' }, { A: false, B: true, next: 'B' }],
  ])('%s', async (_what, state, mark, target, result, after) => {
    const host = await hostWith(state);
    expect(await markSlot(host, mark, target)).toMatchObject(result);
    expect(ok(await currentBoot(host))).toEqual(after);
  });

  test.each<[string, BootState, Mark, MarkTarget, string]>([
    ['the only one that boots is never bad', ONLY_A, 'bad', 'A', 'SLOT_RUNNING'],
    ['a trial is not decided before it ran', B_ON_TRIAL, 'good', 'B', 'ON_TRIAL'],
  ])('%s', async (_what, state, mark, target, code) => {
    const host = await hostWith(state);
    expect(await markSlot(host, mark, target)).toMatchObject({ kind: 'refusal', code });
    expect(ok(await currentBoot(host))).toEqual(ok(state));
  });

  test('a slot that nothing was written to is never good', async () => {
    const host = await hostWith(ONLY_A, { written: false });
    expect(await markSlot(host, 'good', 'other')).toMatchObject({ kind: 'refusal', code: 'SLOT_NOT_FOUND' });
  });

  test('an update that holds the lock is not disturbed', async () => {
    const host = await hostWith(BOTH);
    const unlock = await host.files.lock('/run/quantix/update.lock');
    expect(await markSlot(host, 'bad', 'other')).toMatchObject({ kind: 'refusal', code: 'BUSY' });
    await unlock?.();
  });

  test.each<[string, 'A' | 'B', Mark, MarkTarget, object]>([
    ['given up before it ran', 'A', 'bad', 'B', { A: true, B: false, next: 'A' }],
    ['given up while it runs', 'B', 'bad', 'booted', { A: true, B: false, next: 'A' }],
    ['kept while it runs', 'B', 'good', 'booted', { A: true, B: true, next: 'B' }],
  ])(
    'a trial of which the journal says nothing is told with its way out, and %s',
    async (_what, runs, mark, to, after) => {
      const host = await hostWith(armTrial(ONLY_A, 'B', 'zzzzzzzz'), { runs });
      const agent = createAgent(host);
      const verb = new RegExp(`slot B for an update that this host does not know.*qx-update mark ${mark} B`);
      expect(await agent.status()).toMatchObject({ status: 'error', message: expect.stringMatching(verb) });
      await markSlot(host, mark, to);
      expect(ok(await currentBoot(host))).toEqual(after);
      expect((await currentBoot(host))?.trial).toBe('');
      expect((await agent.status()).message ?? '').not.toContain('does not know');
    },
  );

  test('a running trial that is marked good finishes its update', async () => {
    const host = await hostWith(B_ON_TRIAL, { runs: 'B' });
    await saveJournal(host, { ...sampleJournal, components: [] });
    expect(await markSlot(host, 'good', 'booted')).toMatchObject({ kind: 'marked', slot: 'B', next: 'B' });
    expect(ok(await currentBoot(host))).toEqual({ A: true, B: true, next: 'B' });
    const journal = await host.files.read('/quantix/ab-update-state.json', 1 << 20);
    expect(new TextDecoder().decode(journal ?? undefined)).toContain('"phase": "complete"');
  });

  test('an armed update whose slot is marked bad is taken back', async () => {
    const host = await hostWith(B_ON_TRIAL);
    await saveJournal(host, { ...sampleJournal, components: [] });
    expect(await markSlot(host, 'bad', 'B')).toMatchObject({ kind: 'marked', slot: 'B', next: 'A' });
    const journal = await host.files.read('/quantix/ab-update-state.json', 1 << 20);
    expect(new TextDecoder().decode(journal ?? undefined)).toContain('"phase": "rolledBack"');
  });
});

test('what the installer wrote keeps its version in the table once another slot runs', async () => {
  const host = await hostWith(markGood(BOTH, 'B'), { runs: 'B' });
  // Looks like an ext4, and says nothing of itself.
  const start = new Uint8Array(4096);
  start.set([0x53, 0xef], 1080);
  await host.files.makeDirectory('/dev/disk/by-partlabel');
  await host.files.writeAtomic('/dev/disk/by-partlabel/QUANTIX-A', start);
  await host.files.writeAtomic('/etc/quantix-version', new TextEncoder().encode('1.1.0\n'));
  await saveJournal(host, { ...sampleJournal, phase: 'complete', pending: false, previous_version: '1.0.7' });
  expect(await slotTable(host)).toMatchObject([
    { slot: 'A', running: false, version: '1.0.7' },
    { slot: 'B', running: true, version: '1.1.0' },
  ]);
});

test('the table of slots says what is known, also where the environment is lost', async () => {
  const host = await hostWith(markGood(BOTH, 'A'));
  expect(await slotTable(host)).toMatchObject([
    { slot: 'A', running: true, next: true, ok: true, version: '1.0.0', device: null },
    // Nothing is there any more that it could be the version of.
    { slot: 'B', running: false, next: false, ok: true, version: null, writtenAt: CONTENT.written_at },
  ]);
  for (const copy of ['grubenv', 'grubenv.bak']) await host.files.remove(`/boot/grub/${copy}`);
  expect(await slotTable(host)).toMatchObject([{ ok: null, next: false }, { ok: null }]);
});
