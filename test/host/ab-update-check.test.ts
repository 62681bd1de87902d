import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { block, goodA, trialB } from '../support/grub-block.ts';
import { type HostRoot, hostRequirements, hostRoot, isThere, type Shell, shells } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';
import { shellClock } from '../support/shell-clock.ts';

const check = 'etc/local.d/03-ab-update-check.start';
const primary = 'boot/grub/grubenv';
const backup = 'boot/grub/grubenv.bak';
const tries = 'quantix/limiquantix/tries';
const onTrial = 'quantix.slot=B quantix.env=grubenv quantix.trial=trial0001\n';
const good = block(goodA);

async function bootedHost(
  shell: Shell,
  cmdline: string,
  copies: { primary?: string; backup?: string } = {},
): Promise<HostRoot> {
  const root = await hostRoot(shell);
  await root.write('proc/cmdline', cmdline);
  await root.write(primary, copies.primary ?? good);
  await root.write(backup, copies.backup ?? good);
  return root;
}

/** The deadline runs on after its script: without this it would outlive the test. */
async function endDeadline(root: HostRoot): Promise<void> {
  const pid = Number(await root.read('run/quantix/deadline.pid'));
  if (pid > 0) await execa('kill', [String(pid)], { reject: false });
}

/** Its script has come to its end, and does nothing more. */
async function untilGone(root: HostRoot): Promise<void> {
  await expect
    .poll(
      async () =>
        (await execa('pgrep', ['-f', join(root.path, 'usr/lib/quantix/deadline')], { reject: false })).exitCode,
    )
    .toBe(1);
}

// Every way in which a copy can be damaged; what the shell has to notice without the agent.
const damages = [
  ['empty', ''],
  ['zeroed', '\0'.repeat(4096)],
  ['cut short', good.slice(0, 1024)],
  ['without a header', `#${good.slice(2)}#`],
  ['header alone', '# GRUB Environment Block\n'.padEnd(4096, '#')],
  ['second sector zeroed', `${good.slice(0, 512)}${'\0'.repeat(512)}${good.slice(1024)}`],
  ['a byte of junk in the padding', `${good.slice(0, 3000)}\n!\n${good.slice(3003)}`],
  ['seal of another state', block(goodA, 'A B|1|1|0|0||')],
  ['value changed, seal not', good.replace('quantix_b_ok=0', 'quantix_b_ok=1')],
  ['seal missing', good.replace('quantix_seal', 'quantix_real')],
  ['variable twice', good.replace('quantix_a_ok=1\n', 'quantix_a_ok=1\nquantix_a_ok=1\n').slice(0, 4096)],
  ['impossible order', block({ ...goodA, order: 'A A' })],
  ['impossible tries', block({ ...goodA, b_tries: '9' })],
  ['impossible trial', block({ ...goodA, trial: 'Z; reboot' })],
] as const;

requires(hostRequirements)('03-ab-update-check.start', () => {
  describe.each(shells)('environment copies in $name', (shell) => {
    test('the copy that GRUB counted in is copied over the other, in place', async () => {
      await using root = await bootedHost(shell, 'quantix.slot=A quantix.env=grubenv.bak\n', {
        backup: block({ ...goodA, failed: 'trial0001' }),
      });
      const inode = (await stat(join(root.path, primary))).ino;
      await root.run(check);
      expect(await root.read(primary)).toBe(block({ ...goodA, failed: 'trial0001' }));
      expect((await stat(join(root.path, primary))).ino).toBe(inode);
      expect(await root.read('dev/kmsg')).toContain('quantix: copied grubenv.bak over grubenv');
    });

    test.each(damages)('the other copy is repaired: %s', async (_, damaged) => {
      await using root = await bootedHost(shell, 'quantix.slot=A quantix.env=grubenv\n', { backup: damaged });
      await root.run(check);
      expect(await root.read(backup)).toBe(good);
      expect(await root.read('dev/kmsg')).toContain('grubenv.bak was damaged');
    });

    test.each(damages)('the copy that GRUB named is not spread: %s', async (_, damaged) => {
      await using root = await bootedHost(shell, 'quantix.slot=A quantix.env=grubenv\n', { primary: damaged });
      const { exitCode } = await root.run(check);
      expect(exitCode).toBe(0);
      expect(await root.read(backup)).toBe(good);
      expect(await root.read(primary)).toBe(damaged);
      expect(await root.read('dev/kmsg')).toContain('is damaged');
    });

    test('a missing copy is made anew', async () => {
      await using root = await bootedHost(shell, 'quantix.slot=A quantix.env=grubenv\n');
      await rm(join(root.path, backup));
      await root.run(check);
      expect(await root.read(backup)).toBe(good);
    });

    test.each([
      ['GRUB found none', 'quantix.slot=A quantix.env=none\n'],
      ['not booted by our grub.cfg', 'root=/dev/sda1 quiet\n'],
      ['a path instead of a name', 'quantix.env=../../etc/passwd\n'],
    ])('nothing is copied: %s', async (_, cmdline) => {
      await using root = await bootedHost(shell, cmdline, { primary: block(trialB) });
      expect((await root.run(check)).exitCode).toBe(0);
      expect(await root.read(primary)).toBe(block(trialB));
      expect(await root.read(backup)).toBe(good);
    });

    test.each([
      ['other tries', { ...trialB, b_tries: '3' }],
      ['no trial', goodA],
    ])('an environment that GRUB did not count in is left alone: %s', async (_, values) => {
      const cmdline = 'quantix.slot=B quantix.env=grubenv quantix.trial=trial0001 quantix.tries=2\n';
      await using root = await bootedHost(shell, cmdline, {
        primary: block(values),
        backup: block({ ...goodA, failed: 'trial0002' }),
      });
      await root.run(check);
      expect(await root.read(backup)).toBe(block({ ...goodA, failed: 'trial0002' }));
      expect(await root.read('dev/kmsg')).toContain('IS NOT THE ENVIRONMENT THAT GRUB WROTE');
    });

    test('the one that it counted in is copied', async () => {
      const cmdline = 'quantix.slot=B quantix.env=grubenv quantix.trial=trial0001 quantix.tries=2\n';
      await using root = await bootedHost(shell, cmdline, { primary: block({ ...trialB, b_tries: '2' }) });
      await root.run(check);
      expect(await root.read(backup)).toBe(block({ ...trialB, b_tries: '2' }));
    });

    test('only once a boot: later the agent writes the copies, one after the other', async () => {
      await using root = await bootedHost(shell, 'quantix.slot=A quantix.env=grubenv\n');
      await root.run(check);
      await root.write(backup, block(trialB));
      await root.run(check);
      expect(await root.read(backup)).toBe(block(trialB));
    });

    test('larger copies with variables of others are kept whole', async () => {
      const large = `${block(goodA).replace(/#+$/, '')}saved_entry=x\n`.padEnd(8192, '#');
      await using root = await bootedHost(shell, 'quantix.slot=A quantix.env=grubenv\n', { primary: large });
      await root.run(check);
      expect(await root.read(backup)).toBe(large);
    });
  });

  describe.each(shells)('fallback in $name', (shell) => {
    test.each([
      ['A', { ...goodA, failed: 'trial0001' }],
      ['B', { ...goodA, order: 'B A', a_ok: '1', b_ok: '1', failed: 'trial0001' }],
    ])('defect 25: a fallback to %s is noticed from the environment, in either direction', async (slot, values) => {
      await using root = await bootedHost(shell, `quantix.slot=${slot} quantix.env=grubenv\n`, {
        primary: block(values),
      });
      await root.run(check);
      expect(await root.read('run/quantix/fallback')).toBe(`trial0001 ${slot}\n`);
      expect(await root.read('dev/kmsg')).toContain(`update trial trial0001 failed: slot ${slot} was booted instead`);
    });

    test('a fallback that GRUB could not save is noticed from the kernel command line', async () => {
      const cmdline = 'quantix.slot=A quantix.env=grubenv quantix.failed=trial0002\n';
      await using root = await bootedHost(shell, cmdline, { primary: block(trialB) });
      await root.run(check);
      expect(await root.read('run/quantix/fallback')).toBe('trial0002 A\n');
    });

    test('defect 26: the shell counts no tries, GRUB did before the kernel ran', async () => {
      await using root = await bootedHost(shell, onTrial, { primary: block(trialB) });
      await root.run(check);
      await endDeadline(root);
      expect(await root.read(primary)).toBe(block(trialB));
      expect(await root.read(backup)).toBe(block(trialB));
    });
  });

  describe.each(shells)('deadline in $name', (shell) => {
    const everySecond = { QX_TICK_S: '1' };

    test('defect 27: a trial that nobody confirms ends in a reboot', async () => {
      await using root = await bootedHost(shell, onTrial, { primary: block(trialB) });
      await root.write('etc/conf.d/quantix-boot', 'deadline_s=12 # soon\ngrace_s=1\n');
      await root.write(tries, 'trial0000 started\ntrial0000 late 600\n');
      const clock = await shellClock(root);
      await root.run(check);
      expect(await root.read('run/quantix/trial')).toBe('trial0001\n');
      expect(await root.read(tries)).toBe('trial0001 started\n');
      expect(await root.read('dev/kmsg')).toContain('reboot in 12 s unless it is confirmed');
      await clock.pass(2);
      expect(await clock.asked()).toEqual(['5', '5', '2']);
      expect(await root.read('run/quantix/reboot-requested')).toBeNull();
      await clock.pass(1);
      expect(await root.read('run/quantix/reboot-requested')).toBe('trial0001\n');
      expect(await root.read('dev/kmsg')).toContain(
        'trial trial0001 was not confirmed in 12 s (deadline_s): rebooting',
      );
      await clock.give(1);
      await untilGone(root);
      expect(await root.read(tries)).toBe('trial0001 started\ntrial0001 late 12\n');
    });

    test('a watchdog is fed while the reboot may still be an orderly one, and left alone after that', async () => {
      await using root = await bootedHost(shell, onTrial);
      await root.write('etc/conf.d/quantix-boot', 'deadline_s=1\ngrace_s=3\n');
      await root.write('sys/class/watchdog/watchdog0/nowayout', '0\n');
      await root.write('dev/watchdog', '');
      const clock = await shellClock(root);
      await root.run(check, [], everySecond);
      await clock.pass(1);
      expect(await root.read('run/quantix/reboot-requested')).toBe('trial0001\n');
      await clock.pass(2);
      expect(await root.read('dev/watchdog')).toBe('....');
      await clock.give(1);
      await untilGone(root);
      expect(await root.read('dev/watchdog')).toBe('....');
    });

    test('a confirmed trial stays up', async () => {
      await using root = await bootedHost(shell, onTrial);
      await root.write('etc/conf.d/quantix-boot', 'deadline_s="3"\n');
      const clock = await shellClock(root);
      await root.run(check, [], everySecond);
      await clock.pass(2);
      await root.write('run/quantix/confirmed', 'trial0001\n');
      await clock.give(1);
      await untilGone(root);
      expect(await root.read('run/quantix/deadline.pid')).toBeNull();
      expect(await isThere(join(root.path, 'run/quantix/reboot-requested'))).toBe(false);
    });

    test('it is armed once, and each boot noted once, whatever runs again', async () => {
      await using root = await bootedHost(shell, onTrial);
      await root.write(tries, 'trial0001 started\n');
      await root.run(check);
      const pid = await root.read('run/quantix/deadline.pid');
      await root.run(check);
      expect(await root.read('run/quantix/deadline.pid')).toBe(pid);
      expect(await root.read(tries)).toBe('trial0001 started\ntrial0001 started\n');
      await endDeadline(root);
    });

    test.each([
      ['no trial', 'quantix.slot=A quantix.env=grubenv\n'],
      ['an empty id', 'quantix.trial= quantix.slot=A\n'],
      ['an id that is none', 'quantix.trial=A;reboot quantix.slot=A\n'],
    ])('an ordinary boot has none: %s', async (_, cmdline) => {
      await using root = await bootedHost(shell, cmdline);
      await root.run(check);
      expect(await root.list('run/quantix')).not.toContain('deadline.pid');
      expect(await root.list('run/quantix')).not.toContain('trial');
    });

    test.each([
      ['deadline_s=90\n', '', '90'],
      ["deadline_s='45'\n", 'deadline_s=30\n', '30'],
      ['deadline_s=0\n', '', '600'],
      ['deadline_s=ten\nif then\n', '', '600'],
      ['#deadline_s=5\n', '', '600'],
    ])('settings %j and %j give %s seconds', async (conf, persistent, seconds) => {
      await using root = await bootedHost(shell, onTrial);
      await root.write('etc/conf.d/quantix-boot', conf);
      if (persistent) await root.write('quantix/limiquantix/quantix-boot', persistent);
      await root.run(check);
      await endDeadline(root);
      expect(await root.read('dev/kmsg')).toContain(`reboot in ${seconds} s`);
    });

    test('a watchdog that can be stopped is fed until the end, one that cannot is left alone', async () => {
      for (const [nowayout, written] of [
        ['0', '...V'],
        ['1', ''],
      ] as const) {
        await using root = await bootedHost(shell, onTrial);
        await root.write('dev/watchdog', '');
        await root.write('sys/class/watchdog/watchdog0/nowayout', `${nowayout}\n`);
        const clock = await shellClock(root);
        const deadline = root.run('usr/lib/quantix/deadline', ['trial0001']);
        await clock.pass(2);
        await root.write('run/quantix/confirmed', '');
        await clock.give(1);
        await deadline;
        expect(await root.read('dev/watchdog')).toBe(written);
      }
    });
  });
});
