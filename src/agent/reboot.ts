import { type Refusal, refusal } from '../core/plan.ts';
import { fieldsOf, QxError } from '../errors.ts';
import { takeBaseline } from './baseline.ts';
import { loadHold } from './hold.ts';
import { type Host, instant, PATHS } from './host.ts';
import { loadJournal, saveJournal } from './store.ts';

/** Reboots that somebody asked for, or that an installed image waits for. None passes by a window, a drain or an inhibitor. */

/** Null: the host may reboot now. */
export async function rebootRefusal(host: Host): Promise<Refusal | null> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refusal('BUSY', 'an update is under way on this host', 'qx-update status');
  await unlock();
  const armed = await armedRelease(host);
  const held = armed === null ? null : await loadHold(host);
  if (armed !== null && held !== null) {
    const detail = `updates are on hold since ${held.at} (${held.reason}), and a reboot would start release ${armed.version}`;
    return refusal('HELD', detail, 'qx-update unhold, or qx-update rollback takes that release back first');
  }
  const grant = await host.offer.mayReboot(armed);
  return grant.granted ? null : refusal('REBOOT_REFUSED', grant.reason, 'repeat it later');
}

async function armedRelease(host: Host) {
  const journal = await loadJournal(host);
  if (journal?.phase !== 'armed') return null;
  const { product, channel, target_version: version } = journal;
  return { product, channel, version };
}

/** @throws QxError REBOOT_REFUSED when it is not granted any more */
export async function reboot(host: Host, actor: string): Promise<void> {
  const journal = await loadJournal(host);
  const version = journal?.phase === 'armed' ? journal.target_version : null;
  host.log.info('rebooting', { version });
  await host.audit.record({ event: 'reboot_requested', actor, fields: { version } });
  await noteReboot(host);
  const grant = await host.offer.beginReboot();
  if (!grant.granted) throw new QxError('REBOOT_REFUSED', grant.reason, { next: 'repeat it later' });
  await host.boot.reboot();
}

/**
 * When, and how the host was at last: days may have gone by since the image was installed, and guests have left. A reboot does
 * not fail for it.
 */
async function noteReboot(host: Host): Promise<void> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return;
  try {
    const journal = await loadJournal(host);
    if (journal?.phase !== 'armed') return;
    await takeBaseline(host, journal.id);
    await saveJournal(host, { ...journal, timings: { ...journal.timings, rebooting_at: instant(host.clock) } });
  } catch (error) {
    host.log.warn('reboot_not_noted', fieldsOf(error));
  } finally {
    await unlock();
  }
}
