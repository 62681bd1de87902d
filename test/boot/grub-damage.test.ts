import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeExt4 } from '../../scripts/support/grub-emu.ts';
import { armTrial, type BootState, decideBoot, freshState, HEALTHY_WORLD, invalidate } from '../../src/core/boot.ts';
import { decodeBoot, ENV_BYTES, encodeBoot, SEAL_PATTERN } from '../../src/format/grubenv.ts';
import { TRIAL } from '../support/boot-states.ts';
import {
  type Bench,
  bootFolder,
  bothCopies,
  COMMANDS,
  type Copies,
  expected,
  makeBench,
  makeSquashfs,
  observed,
  REAL_GRUB_CFG,
  slotTree,
  stateOnBoth,
} from '../support/grub-bench.ts';
import { block, trialB } from '../support/grub-block.ts';
import { requires } from '../support/requires.ts';

const both: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };
const armed = armTrial(invalidate(both, 'B'), 'B', TRIAL);
const text = (content: string) => new TextEncoder().encode(content);
const HEADER = '# GRUB Environment Block\n';

/** The same junk in every run. */
const junk = (seed: number, length: number) =>
  Uint8Array.from({ length }, (_, i) => (Math.imul(i + seed * 7919 + 1, 2_654_435_761) >>> 11) & 255);

function withJunk(bytes: Uint8Array, from: number, fill: Uint8Array): Uint8Array {
  const damaged = Uint8Array.from(bytes);
  damaged.set(fill.subarray(0, bytes.length - from), from);
  return damaged;
}

const INVALID: Record<string, Uint8Array> = {
  zeros: new Uint8Array(ENV_BYTES),
  'random bytes': junk(1, ENV_BYTES),
  'a header and random bytes': withJunk(encodeBoot(armed), HEADER.length, junk(2, ENV_BYTES)),
  'a header and zeros': withJunk(encodeBoot(armed), HEADER.length, new Uint8Array(ENV_BYTES)),
  'a header and nothing else': text(HEADER.padEnd(ENV_BYTES, '#')),
  'a wrong seal': text(block(trialB, 'B A|1|0|0|3|trial0001|')),
  'no seal': text(
    block(trialB)
      .replace(/quantix_seal=.*\n/, '')
      .padEnd(ENV_BYTES, '#'),
  ),
  'tries=9': text(block({ ...trialB, b_tries: '9' })),
  'a slot letter as trial': text(block({ ...trialB, trial: 'X' })),
  'a kernel option in the trial': text(block({ ...trialB, trial: 'trial0001 init=/bin/sh' })),
  'an operator as order': text(block({ ...trialB, order: '!' })),
  'no order': text(block({ ...trialB, order: '' })),
  'ok=yes': text(block({ ...trialB, b_ok: 'yes' })),
};

/** The second copy lacks its trial, and would be whole with the one of the first copy. */
const LEAKING: Copies = {
  grubenv: text(block({ ...trialB, order: 'Z' })),
  'grubenv.bak': text(
    block(trialB)
      .replace(/quantix_trial=.*\n/, '')
      .padEnd(ENV_BYTES, '#'),
  ),
};

requires({ commands: COMMANDS })('the real GRUB with a damaged boot environment', () => {
  let folder = '';
  let bench: Bench;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
    bench = await makeBench(folder);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  describe.each(Object.entries(INVALID))('%s', (_, damaged) => {
    test('in the first copy: the second one decides and counts, the first is left as it is', async () => {
      const started = await bench.start({ copies: { grubenv: damaged, 'grubenv.bak': encodeBoot(armed) } });
      expect(observed(started, 'grubenv.bak')).toEqual(expected(decideBoot(armed), 'grubenv.bak'));
      expect(started.after.grubenv).toEqual(damaged);
    });

    test('in the second copy: nobody notices', async () => {
      const started = await bench.start({ copies: { grubenv: encodeBoot(armed), 'grubenv.bak': damaged } });
      expect(observed(started)).toEqual(expected(decideBoot(armed)));
    });

    test('in both: slot A, loudly, and nothing is written', async () => {
      const started = await bench.start({ copies: bothCopies(damaged) });
      expect(observed(started)).toEqual(expected(decideBoot(null), 'none'));
      expect(started.output).toContain('BOTH COPIES OF THE BOOT ENVIRONMENT ARE LOST');
      expect(started.after).toEqual(bothCopies(damaged));
    });
  });

  test('an invalid first copy leaks nothing into what the second one lacks', async () => {
    const started = await bench.start({ copies: LEAKING });
    expect(observed(started)).toMatchObject({ slot: 'A', isLoud: true });
    expect(started.kernel?.cmdline).not.toContain('trial');
  });

  test('both judge a seal by the same expression', async () => {
    expect(await readFile(REAL_GRUB_CFG, 'utf8')).toContain(`regexp '${SEAL_PATTERN}' "$qx_seal"`);
  });

  test('agent and GRUB agree about every damaged copy, whatever the damage', async () => {
    const whole = encodeBoot(armed);
    for (let seed = 0; seed < 120; seed++) {
      const [at = 0, value = 0] = [(seed * 37) % 330, [0, 10, 35, 61, 92, 124, 48, 255][seed % 8]];
      const damaged = withJunk(whole, at, seed % 3 === 0 ? junk(seed, 1 + (seed % 5)) : Uint8Array.of(value));
      const started = await bench.start({ copies: { grubenv: damaged, 'grubenv.bak': encodeBoot(both) } });
      const used = /quantix\.env=(\S+)/.exec(started.kernel?.cmdline ?? '')?.[1];
      const valid = decodeBoot(damaged);
      expect(used, `damage ${seed} at ${at}`).toBe(valid === null ? 'grubenv.bak' : 'grubenv');
      // Damage in the fill can leave a state that is valid and a block that GRUB cannot write to.
      const canSave = !started.output.includes('COULD NOT BE SAVED');
      expect(started.slot).toBe(decideBoot(valid ?? both, { ...HEALTHY_WORLD, canSave }).slot);
    }
  });

  test('a zeroed second sector hides nothing: the try is saved, or the old slot boots', async () => {
    const started = await bench.start({ copies: bothCopies(withJunk(encodeBoot(armed), 512, new Uint8Array(512))) });
    const saved = decodeBoot(started.after.grubenv)?.B.tries === 2;
    expect(started.slot).toBe(saved ? 'B' : 'A');
  });

  test('missing copies are lost copies', async () => {
    const image = join(folder, 'none.img');
    await makeExt4(await bootFolder(folder, {}), image, 2);
    const started = await bench.start({ copies: stateOnBoth(both), bootDisk: image });
    expect(started.kernel?.cmdline).toContain('quantix.slot=A quantix.env=none');
  });

  test('a copy that GRUB may not write to (a sparse file) starts no trial', async () => {
    const sparse = join(folder, 'sparse.img');
    // mke2fs leaves a hole where a file holds a block of zeros.
    const holed = Uint8Array.from([...encodeBoot(armed), ...new Uint8Array(ENV_BYTES)]);
    await makeExt4(await bootFolder(folder, bothCopies(holed)), sparse, 2);
    const started = await bench.start({ copies: stateOnBoth(armed), bootDisk: sparse });
    expect(started.output).toContain('THE TRY OF SLOT B COULD NOT BE SAVED');
    expect(started.kernel?.cmdline).toBe(
      `root=PARTLABEL=QUANTIX-A ro panic=10 quantix.slot=A quantix.env=grubenv quantix.failed=${TRIAL} quantix.failed_why=unsaved`,
    );
  });

  test.each(['vmlinuz', 'initramfs'])('a trial slot without %s is given up at once', async (missing) => {
    const tree = await slotTree(folder, missing);
    await rm(join(tree, 'boot', missing));
    const image = join(folder, `no-${missing}.img`);
    await makeSquashfs(tree, image);
    const started = await bench.start({ copies: stateOnBoth(armed), slots: { B: image } });
    const decision = decideBoot(armed, { readable: { A: true, B: false }, canSave: true });
    expect(observed(started)).toEqual(expected(decision));
  });

  test('a GRUB without the module that reads a file and does nothing with it starts the slot all the same', async () => {
    const own = await mkdtemp(join(folder, 'bare-'));
    const real = await readFile(REAL_GRUB_CFG, 'utf8');
    const bare = await makeBench(own, real.replaceAll('testspeed', 'no_such_command'));
    const started = await bare.start({ copies: stateOnBoth(armed) });
    expect(started.output).toContain("can't find command");
    expect(observed(started)).toEqual(expected(decideBoot(armed)));
  });

  test('corrupted bytes in an xz slot are noticed, and the trial is given up', async () => {
    const image = await corruptedSlot(folder, await slotTree(folder, 'corrupt', 60_000));
    const started = await bench.start({ copies: stateOnBoth(armed), slots: { B: image } });
    expect(observed(started)).toMatchObject({ slot: 'A', after: { failed: TRIAL, trial: '' } });
  });

  test('corrupted bytes that squashfs stored as they are go unnoticed by GRUB, but the try is counted', async () => {
    const tree = await slotTree(folder, 'stored');
    await writeFile(join(tree, 'boot', 'vmlinuz'), randomBytes(60_000));
    const started = await bench.start({ copies: stateOnBoth(armed), slots: { B: await corruptedSlot(folder, tree) } });
    expect(observed(started)).toEqual(expected(decideBoot(armed)));
  });

  test('a slot whose first MiB is zeroed cannot boot even if the environment says that it is ok', async () => {
    const image = join(folder, 'half.img');
    const tree = await slotTree(folder, 'half', 2 << 20);
    await makeSquashfs(tree, image);
    await writeFile(image, Buffer.concat([Buffer.alloc(1 << 20), (await readFile(image)).subarray(1 << 20)]));
    const started = await bench.start({ copies: stateOnBoth({ ...both, order: ['B', 'A'] }), slots: { B: image } });
    expect(started.slot).toBe('A');
  });

  test('a file system slot is found by its label, as the initramfs of that layout does', async () => {
    const tree = await slotTree(folder, 'ext4');
    await mkdir(join(tree, 'quantix'));
    await writeFile(join(tree, 'quantix', 'system.squashfs'), 'any');
    const image = join(folder, 'ext4.img');
    await makeExt4(tree, image, 2, 'QUANTIX-A');
    const started = await bench.start({ copies: stateOnBoth(both), slots: { A: image } });
    expect(started.kernel?.cmdline).toMatch(/^root=LABEL=QUANTIX-A ro panic=10 quantix\.slot=A /);
  });
});

requires({ commands: COMMANDS })('these tests can fail', () => {
  test.each<[string, (cfg: string) => string]>([
    [
      'the try is counted after the kernel was read',
      (cfg) => cfg.replace('  elif qx_count; then\n    set qx_trial', '  elif true; then\n    set qx_trial'),
    ],
    [
      'variables are not unset before a copy is read',
      (cfg) => cfg.replace('function qx_load {\n  qx_forget', 'function qx_load {'),
    ],
    ['the seal is not asked', (cfg) => cfg.replace('if [ "x$quantix_seal" = "x$qx_seal" ]; then', 'if true; then')],
    ['the second copy is read first', (cfg) => cfg.replace('in grubenv grubenv.bak', 'in grubenv.bak grubenv')],
  ])('a grub.cfg in which %s is caught', async (_, spoil) => {
    const folder = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
    try {
      const real = await readFile(REAL_GRUB_CFG, 'utf8');
      const spoiled = spoil(real);
      expect(spoiled).not.toBe(real);
      const bench = await makeBench(folder, spoiled);
      const cases = [
        { copies: stateOnBoth(armed), decision: decideBoot(armed), copy: 'grubenv' },
        {
          copies: { grubenv: encodeBoot(armed), 'grubenv.bak': encodeBoot(both) },
          decision: decideBoot(armed),
          copy: 'grubenv',
        },
        {
          copies: { grubenv: text(block(trialB, 'B A')), 'grubenv.bak': encodeBoot(both) },
          decision: decideBoot(both),
          copy: 'grubenv.bak',
        },
        { copies: LEAKING, decision: decideBoot(null), copy: 'none' },
      ] as const;
      const agreed: boolean[] = [];
      for (const { copies, decision, copy } of cases) {
        const started = await bench.start({ copies });
        const left = observed(started, copy === 'grubenv.bak' ? copy : 'grubenv');
        agreed.push(JSON.stringify(left) === JSON.stringify(expected(decision, copy)));
      }
      expect(agreed).toContain(false);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

async function corruptedSlot(folder: string, tree: string): Promise<string> {
  const image = join(folder, `${basename(tree)}.img`);
  await makeSquashfs(tree, image);
  const bytes = await readFile(image);
  bytes.fill(0x5a, 10_000, 10_008);
  await writeFile(image, bytes);
  return image;
}
