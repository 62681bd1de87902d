import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Offer } from '../../src/ports/offer.ts';
import { steppedClock } from '../support/agent-host.ts';
import { openMember } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

let root: string;
beforeEach(async () => {
  root = await temporaryFolder();
});

const at = async (now: string, ...settings: readonly string[]): Promise<Offer> =>
  (await openMember({ root, clock: steppedClock(now), settings })).offer;
const inhibit = async (name: string, why: string): Promise<void> => {
  await mkdir(join(root, 'run/quantix/inhibit'), { recursive: true });
  await writeFile(join(root, 'run/quantix/inhibit', name), why);
};
const release = { product: 'quantix-os', channel: 'dev', version: '1.1.0' } as const;

describe('checklist: the reboot of an A/B update', () => {
  test('is free where nothing stands against it', async () => {
    const offer = await at('2026-11-10T12:00:00Z');
    expect(await offer.mayReboot(release)).toEqual({ granted: true });
    expect(await offer.beginReboot()).toEqual({ granted: true });
  });

  test('waits while the host is drained, and says for what', async () => {
    const offer = await at('2026-11-10T12:00:00Z');
    await inhibit('drain', '3 machines still move\n');
    const reason = 'drain inhibits the reboot: 3 machines still move';
    expect(await offer.mayReboot(release)).toEqual({ granted: false, reason });
    await rm(join(root, 'run/quantix/inhibit/drain'));
    expect(await offer.mayReboot(release)).toEqual({ granted: true });
  });

  test('waits for the maintenance window, which does not pass by a drain either', async () => {
    const window = "maintenance_windows: [{ start: '22:00', end: '23:00', timezone: UTC }]";
    expect(await (await at('2026-11-10T21:00:00Z', window)).mayReboot(release)).toMatchObject({
      granted: false,
      reason: expect.stringContaining('2026-11-10T22:00:00.000Z'),
      retryAfterMs: 3600_000,
    });
    const open = await at('2026-11-10T22:30:00Z', window);
    expect(await open.mayReboot(release)).toEqual({ granted: true });
    await inhibit('drain', '');
    expect(await open.mayReboot(release)).toEqual({ granted: false, reason: 'drain inhibits the reboot' });
  });

  test('an inhibitor that cannot be read inhibits all the same', async () => {
    await mkdir(join(root, 'run/quantix/inhibit/folder'), { recursive: true });
    const offer = await at('2026-11-10T12:00:00Z');
    expect(await offer.mayReboot(release)).toMatchObject({ granted: false });
    expect(await offer.beginReboot()).toMatchObject({ granted: false });
  });
});
