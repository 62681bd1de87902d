import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bootHost } from '../../scripts/support/grub-host.ts';
import { settleBoot } from '../../src/agent/bootenv.ts';
import { armTrial, freshState } from '../../src/core/boot.ts';
import { bootVerdict, type PendingSlot } from '../../src/core/boot-verdict.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import { grubBoot } from '../../src/system/grub.ts';
import { TRIAL } from '../support/boot-states.ts';
import { NO_DISKS } from '../support/fakes.ts';
import { COMMANDS, makeSquashfs, REAL_GRUB_CFG, slotTree } from '../support/grub-bench.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

requires({ commands: COMMANDS })('a host in a folder, started by the real GRUB', () => {
  test('three bad boots of the new slot, then the old one is back and the agent knows why', async () => {
    const root = await temporaryFolder();
    const grubFolder = join(root, 'boot', 'grub');
    await mkdir(grubFolder, { recursive: true });
    await mkdir(join(root, 'proc'));
    await copyFile(REAL_GRUB_CFG, join(grubFolder, 'grub.cfg'));
    const armed = encodeBoot(armTrial(freshState('A'), 'B', TRIAL));
    for (const copy of ['grubenv', 'grubenv.bak']) await writeFile(join(grubFolder, copy), armed);
    const slotA = join(root, 'a.img');
    const slotB = join(root, 'b.img');
    await makeSquashfs(await slotTree(root, 'A'), slotA);
    await makeSquashfs(await slotTree(root, 'B'), slotB);

    const noProcess = { run: () => Promise.reject(new Error('a host in a folder must run nothing')) };
    const boot = grubBoot(root, noProcess);
    const journal: PendingSlot = { phase: 'armed', target: 'B', trial: TRIAL };
    const told: string[] = [];
    for (let start = 0; start < 4; start++) {
      const { slot, kernel } = await bootHost({ grubFolder, slotA, slotB });
      await writeFile(join(root, 'proc', 'cmdline'), kernel?.cmdline ?? '');
      const { state, booted } = await settleBoot({ boot, disks: NO_DISKS }, journal);
      told.push(`${slot} ${bootVerdict(journal, state, booted)}`);
      expect(await readFile(join(grubFolder, 'grubenv'))).toEqual(await readFile(join(grubFolder, 'grubenv.bak')));
    }
    expect(told).toEqual(['B trial', 'B trial', 'B trial', 'A rolled-back']);
  });
});
