import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Typist } from '../../scripts/support/keyboard.ts';
import { armTrial, type BootState, decideBoot, freshState, invalidate } from '../../src/core/boot.ts';
import { TRIAL } from '../support/boot-states.ts';
import {
  COMMANDS,
  expected,
  makeBench,
  observed,
  REAL_GRUB_CFG,
  type Started,
  stateOnBoth,
} from '../support/grub-bench.ts';
import { requires } from '../support/requires.ts';
import { ACCIDENTS, afterAsking, atOnce, chosen, ESCAPE } from '../support/typists.ts';

const both: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };
const armed = armTrial(invalidate(both, 'B'), 'B', TRIAL);

/** GRUB waits by its own clock: one bench for each, side by side. */
async function start(state: BootState, typist: Typist, layout = '', grubCfg?: string): Promise<Started> {
  const folder = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
  try {
    const bench = await makeBench(folder, grubCfg, layout);
    return await bench.start({ copies: stateOnBoth(state), typist });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const nobody: Typist = async () => undefined;
requires({ commands: COMMANDS })('what arrives by accident while GRUB listens', () => {
  test.concurrent.for(Object.entries(ACCIDENTS))('%s: the armed trial boots', async ([, typist], { expect }) => {
    const started = await start(armed, typist, 'set qx_timeout=1\n');
    expect(observed(started)).toEqual(expected(decideBoot(armed)));
  });

  test.concurrent.for(['-1', '', 'soon', '600'])(
    'the layout says to listen for "%s": it boots by itself',
    async (timeout, { expect }) => {
      const started = await start(armed, nobody, `set qx_timeout="${timeout}"\n`);
      expect(observed(started)).toEqual(expected(decideBoot(armed)));
    },
  );

  test.concurrent('the layout has a password for the menu: nobody is asked for it', async ({ expect }) => {
    const started = await start(armed, nobody, 'set superusers=root\npassword root secret\n');
    expect(observed(started)).toEqual(expected(decideBoot(armed)));
  });

  test.concurrent('a GRUB without the command that listens does not listen', async ({ expect }) => {
    const real = await readFile(REAL_GRUB_CFG, 'utf8');
    const started = await start(armed, atOnce(ESCAPE), '', real.replaceAll('sleep --', 'no_such_command --'));
    expect(observed(started)).toEqual(expected(decideBoot(armed)));
  });

  test.concurrent('nothing boots, no restart works, and the layout wants a key for each page: GRUB goes on trying', async ({
    expect,
  }) => {
    const real = await readFile(REAL_GRUB_CFG, 'utf8');
    const tenTimes = '    if [ "$qx_n" = nnnnnnnnn ]; then exit; fi\n    set qx_n="n$qx_n"\n';
    const bare = real.replace('    reboot\n', tenTimes).replaceAll('/boot/vmlinuz', '/boot/none');
    const started = await start(both, nobody, 'set pager=1\n', bare);
    expect(started.output.match(/NOTHING BOOTS/g)).toHaveLength(10);
  });
});

requires({ commands: COMMANDS })('what a person chooses', () => {
  test.concurrent.for(['A', 'B'] as const)(
    'slot %s boots past the armed trial or as it, as it was picked',
    async (slot, { expect }) => {
      const started = await start(armed, chosen(slot.toLowerCase()));
      const trial = slot === 'B';
      expect(started.slot).toBe(slot);
      expect(started.kernel?.cmdline.includes('quantix.trial')).toBe(trial);
      if (trial) expect(observed(started)).toEqual(expected(decideBoot(armed)));
      else expect(started.after).toEqual(stateOnBoth(armed));
    },
  );

  test.concurrent('safe: what would have booted, without the data partition', async ({ expect }) => {
    const { cmdline } = (await start(armed, chosen('s'))).kernel ?? {};
    expect(cmdline).toBe(`${expected(decideBoot(armed)).kernel} quantix.safe`);
  });

  test.concurrent('whoever changes his mind boots exactly what would have booted', async ({ expect }) => {
    const layout = 'set qx_extra="quiet console=ttyS0"\n';
    const [alone, through] = await Promise.all(
      [nobody, afterAsking('menux')].map((typist) => start(both, typist, layout)),
    );
    expect(through?.kernel).toEqual(alone?.kernel);
    expect(alone?.kernel?.cmdline).toMatch(/ quiet console=ttyS0$/);
  });
});

test('the byte of Escape is in grub.cfg: an editor that drops it would open the menu of GRUB for good', async () => {
  expect(await readFile(REAL_GRUB_CFG, 'utf8')).toContain(`for qx_key in "${ESCAPE}" a b`);
});
