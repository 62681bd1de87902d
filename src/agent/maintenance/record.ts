import { writeDocument } from '../../format/document.ts';
import { HOST_MAINTENANCE_PATH, type HostMaintenance, readHostMaintenance } from '../../format/host-maintenance.ts';
import type { Files } from '../../ports.ts';
import { PATHS } from '../host.ts';

/** The maintenance of this host, as it remembers it. */

const MAX_BYTES = 64 << 10;
/** In /run, which a boot empties. */
const THIS_BOOT = `${PATHS.run}/rebooting`;

/** Null: nothing was asked for. @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function loadRecord(files: Files): Promise<HostMaintenance | null> {
  const bytes = await files.read(HOST_MAINTENANCE_PATH, MAX_BYTES);
  return bytes === null ? null : readHostMaintenance(bytes);
}

/** Writes only what is new: a host that waits asks four times a minute. */
export async function changeRecord(
  files: Files,
  record: HostMaintenance,
  change: Partial<HostMaintenance> = {},
): Promise<HostMaintenance> {
  const next = { ...record, ...change };
  const bytes = writeDocument(next);
  const before = await files.read(HOST_MAINTENANCE_PATH, MAX_BYTES);
  if (before === null || Buffer.compare(before, bytes) !== 0) {
    await files.makeDirectory(HOST_MAINTENANCE_PATH.slice(0, HOST_MAINTENANCE_PATH.lastIndexOf('/')), 0o700);
    await files.writeAtomic(HOST_MAINTENANCE_PATH, bytes, 0o600);
  }
  return next;
}

export const forgetRecord = (files: Files): Promise<void> => files.remove(HOST_MAINTENANCE_PATH);

/** That the reboot is about to happen; a crash of the agent before it leaves the mark, the reboot itself does not. */
export async function markReboot(files: Files, record: HostMaintenance, now: string): Promise<HostMaintenance> {
  await files.makeDirectory(PATHS.run);
  await files.writeAtomic(THIS_BOOT, new TextEncoder().encode(`${record.target_version}\n`), 0o644);
  // Begun again after a crash, it has no more time than before.
  return changeRecord(files, record, { is_rebooting: true, rebooting_since: record.rebooting_since ?? now });
}

/** It is not granted after all. */
export async function unmarkReboot(files: Files, record: HostMaintenance): Promise<HostMaintenance> {
  const { rebooting_since: _, ...before } = withoutEnd(record);
  const unmarked = await changeRecord(files, before);
  await files.remove(THIS_BOOT);
  return unmarked;
}

/** What became of an earlier one is over; of one that is still begun it stays known since when. */
export async function asGranted(files: Files, record: HostMaintenance): Promise<HostMaintenance> {
  const isOver = record.has_failed === true || (await hasRebooted(files, record));
  const { since: _, rebooting_since: __, ...fresh } = record;
  return withoutEnd(isOver ? fresh : record);
}

export async function forgetSince(files: Files): Promise<void> {
  const record = await loadRecord(files);
  if (record?.since === undefined) return;
  const { since: _, ...rest } = record;
  await changeRecord(files, rest);
}

/** Neither its reboot nor how it ended. */
const withoutEnd = ({ is_rebooting: _, has_failed: __, ...record }: HostMaintenance): HostMaintenance => record;

/** The reboot that was granted has happened. */
export const hasRebooted = async (files: Files, { is_rebooting }: HostMaintenance): Promise<boolean> =>
  is_rebooting === true && (await files.info(THIS_BOOT)) === null;
