import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { armedJourney } from '../support/journey-fallback.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';
import { armedHosts } from './armed.ts';
import { COPIES, copies, flipped, layout, nodeSettings, shortCopies, withoutData } from './damage.ts';
import { addFaults } from './faults.ts';
import { vmImages } from './guest.ts';
import { expectArmedAgainAndKept, expectKept, expectTrialKept } from './kept.ts';
import { IN_QEMU, SLOW, VM } from './machine.ts';

const IN_1970 = ['-rtc', 'base=1970-01-01T00:00:00'];

/** The same tree, in the compression whose checksums GRUB does not look at. */
async function inGzip(image: string): Promise<string> {
  const folder = await temporaryFolder();
  const [tree, made] = [join(folder, 'tree'), join(folder, 'gzip.squashfs')];
  await execa('unsquashfs', ['-quiet', '-no-progress', '-dest', tree, image]);
  await execa('mksquashfs', [tree, made, '-comp', 'gzip', '-quiet', '-no-progress']);
  return made;
}

const SUPERBLOCK_BYTES = 96;

/** Of the first file, /boot/initramfs; the last four bytes of a block are its checksum. */
async function endOfFirstBlock(image: string): Promise<number> {
  await using file = await open(image);
  const { buffer } = await file.read(Buffer.alloc(1 << 20), 0, 1 << 20, SUPERBLOCK_BYTES);
  // With `info` it answers how much of it belonged to the block.
  const { engine } = inflateSync(buffer, { info: true }) as unknown as { engine: { bytesWritten: number } };
  return SUPERBLOCK_BYTES + engine.bytesWritten;
}

const ZEROS = (block: Uint8Array): Uint8Array => new Uint8Array(block.length);

requires(VM)('a trial on a host that is not as it should be', () => {
  const imageOf = vmImages({ compression: 'xz, of boot alone' });
  const armed = armedHosts(imageOf);

  test('the first copy of the boot environment is zeros: the other one counts', async () => {
    const { journey } = await armed({ damage: copies(['grubenv'], ZEROS) });
    const { cmdline } = await journey.host.boot();
    expect(cmdline).toContain('quantix.slot=B quantix.env=grubenv.bak ');
    await expectKept(journey);
  });

  test('both copies are too short: slot A boots, arms the trial again, and it is kept', async () => {
    const { journey } = await armed({ damage: shortCopies(COPIES) });
    await expectArmedAgainAndKept(journey);
  });

  test('the clock says 1970 and is set right later: the trial is kept', async () => {
    const { journey, withOther } = await armed({ qemu: IN_1970 });
    expect((await journey.host.boot()).slot).toBe('B');
    expect((await journey.host.run('date', '+%Y')).output).toBe('1970');
    await expectKept(journey);
    await journey.host.cutPower();
    const later = await withOther([]);
    expect((await later.host.boot()).slot).toBe('B');
    expect(Number((await later.host.run('date', '+%Y')).output)).toBeGreaterThan(2025);
    expect(await later.host.ask('status')).toMatchObject({ status: 'complete', currentVersion: '1.1.0' });
    expect(await later.host.update('check')).toMatchObject({ exitCode: 3 });
  });

  test('/data is full: the trial is kept', async () => {
    const { journey } = await armed({ fault: 'data-is-full' });
    await expectTrialKept(journey);
  });

  test('/data is read-only: the trial is kept', async () => {
    const { journey } = await armed({ fault: 'data-is-read-only' });
    await expectTrialKept(journey);
  });

  test('/data cannot be mounted: the new image may be why, so the old one boots, and waits for it', async () => {
    const impatient = nodeSettings((yaml) =>
      yaml.replace(/health_timeout: .*/, 'health_timeout: 60s\n  health_attempts: 1'),
    );
    const { journey } = await armed({
      damage: async (machine) => {
        await impatient(machine);
        await withoutData(machine);
      },
    });
    const { host } = journey;
    expect(await host.bootUntilItEnds()).toBe('B');
    expect((await host.boot()).slot).toBe('A');
    expect(await host.environment()).toMatchObject({ order: ['A', 'B'], A: { ok: true }, B: { ok: false } });
    expect(await host.ask('status')).toMatchObject({
      status: 'error',
      message: expect.stringContaining('/data is not'),
    });
    expect(await host.run('qx-update', 'mounts', 'list')).toMatchObject({ exitCode: 1 });
    expect((await host.run('ls', '-A', '/data')).output).not.toContain('updates');
  });

  test('quantix.safe: nothing of /data runs, and the trial is kept', async () => {
    const { journey } = await armed({ damage: layout('set qx_extra="$qx_extra quantix.safe"\n') });
    const { host } = journey;
    await expectTrialKept(journey);
    expect((await host.run('readlink', '/run/quantix/bin/qx-console')).output).toBe('/usr/lib/quantix/bin/qx-console');
    expect((await host.run('readlink', '/run/quantix/bin/qx-node')).output).toBe('/usr/lib/quantix/bin/qx-node');
  });

  test('in a gzip image GRUB does not see what it would refuse in another: the health gate does', async () => {
    const image = await inGzip((await imageOf('1.1.0', addFaults)).image);
    const journey = await armedJourney({ first: await imageOf('1.0.0'), stage: IN_QEMU, settings: SLOW }, image);
    const { host } = journey;
    expect((await host.run('cat', '/var/log/quantix-node.log')).output).toContain('image_unchecked_by_grub');
    expect(await host.update('verify')).toMatchObject({ exitCode: 0 });
    await host.goDown();
    await flipped((await endOfFirstBlock(image)) - 1)(host.machine);
    expect(await host.bootUntilItEnds()).toBe('B');
    expect((await host.boot()).slot).toBe('A');
    expect(await host.environment()).toMatchObject({ order: ['A', 'B'], A: { ok: true }, B: { ok: false } });
    expect((await host.run('qx-update', 'history')).output).toContain('READBACK_MISMATCH');
  });

  test('the slot that was kept is damaged later: the other one boots, and says which version it is', async () => {
    const { journey } = await armed({});
    const { host } = journey;
    await expectTrialKept(journey);
    await host.powerOff();
    await flipped(20_000)(host.machine);
    expect((await host.boot()).slot).toBe('A');
    await host.untilAgentAnswers();
    expect(await host.ask('current')).toMatchObject({ osVersion: '1.0.0' });
    expect(await host.ask('slots')).toMatchObject({
      slots: [
        { slot: 'A', running: true },
        { slot: 'B', running: false },
      ],
    });
    expect(await host.update('verify')).toMatchObject({ exitCode: 7 });
  });
});
