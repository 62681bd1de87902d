import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { QxError } from '../errors.ts';
import { parseCmdline } from '../format/cmdline.ts';
import type { Boot, EnvCopy, Process } from '../ports.ts';
import { createNew, hasCode, isMissing, makeDirectories, openRegular, syncDirectory, writeNew } from './durable.ts';
import { hostPath } from './host-path.ts';

const GRUB_FOLDER = '/boot/grub';
const MAX_ENV_BYTES = 65_536;
const FILL = '#'.charCodeAt(0);
const REBOOT_TIMEOUT_MS = 60_000;
/** Written where a host lives in a folder: whoever plays its machine sees that it wants to restart. */
const REBOOT_WISH = '/run/quantix/reboot-requested';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** The same for a host in a folder, which has no kernel of its own: what is in /run is gone after a restart. */
const BOOT_NOTE = '/run/quantix/boot-id';

/** The GRUB environment and the kernel command line of the host below `root`; '' or '/' is this machine. */
export function grubBoot(root: string, runner: Process): Boot {
  const at = (path: string): string => hostPath(root, path);
  const copyAt = (copy: EnvCopy): string => at(`${GRUB_FOLDER}/${copy}`);
  return {
    booted: async () => parseCmdline(await textOrEmpty(at('/proc/cmdline'))),
    read: (copy) => readCopy(copyAt(copy)),
    write: (copy, bytes) => writeCopy(copyAt(copy), bytes),
    bootId: async () => (await textOrEmpty(at(BOOT_ID))).trim() || noteBoot(at(BOOT_NOTE)),
    reboot: () => (root === '' || root === '/' ? reboot(runner) : wishReboot(at(REBOOT_WISH))),
  };
}

async function textOrEmpty(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return '';
    throw error;
  }
}

async function readCopy(path: string): Promise<Uint8Array | null> {
  let file: FileHandle;
  try {
    file = await openRegular(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  try {
    const bytes = new Uint8Array(MAX_ENV_BYTES + 1);
    const length = await readFully(file, bytes);
    if (length > MAX_ENV_BYTES) throw new QxError('BOOT_ENV_INVALID', `${path} is larger than ${MAX_ENV_BYTES} bytes`);
    return bytes.slice(0, length);
  } finally {
    await file.close();
  }
}

/**
 * In place, never by rename: GRUB replays no journal, so after a power cut it looks where the file was before. The file never
 * shrinks for the same reason. A file that is not there yet is made once, with its name on the disk.
 */
async function writeCopy(path: string, bytes: Uint8Array): Promise<void> {
  const isNew = await overwrite(path, bytes);
  if (isNew) await createCopy(path, bytes);
  const back = await readCopy(path);
  const isSame = back !== null && bytes.every((byte, i) => back[i] === byte);
  if (!isSame) throw new QxError('BOOT_ENV_INVALID', `${path} reads back differently from what was written`);
}

/** True when there is no such file. */
async function overwrite(path: string, bytes: Uint8Array): Promise<boolean> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return true;
    throw error;
  }
  try {
    const { size } = await file.stat();
    // What an older, larger block said behind our end would still be read by GRUB.
    const whole = new Uint8Array(Math.max(size, bytes.length)).fill(FILL);
    whole.set(bytes);
    await writeFully(file, whole);
    await file.sync();
    return false;
  } finally {
    await file.close();
  }
}

async function createCopy(path: string, bytes: Uint8Array): Promise<void> {
  await makeDirectories(dirname(path), 0o755);
  const file = await createNew(path, 0o644);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncDirectory(dirname(path));
}

async function readFully(file: FileHandle, into: Uint8Array): Promise<number> {
  for (let at = 0; ; ) {
    const { bytesRead } = await file.read(into, at, into.length - at, at);
    at += bytesRead;
    if (bytesRead === 0 || at === into.length) return at;
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, at)).bytesWritten;
}

/** Of the image, where it has one: a service that does not stop would keep the host up for good. */
const GUARD = '/usr/lib/quantix/reboot-guard';
const START_GUARD = `[ ! -x ${GUARD} ] || setsid ${GUARD} </dev/null >/dev/null 2>&1 &`;

async function reboot(runner: Process): Promise<void> {
  await runner.run(['sh', '-c', START_GUARD], { timeoutMs: REBOOT_TIMEOUT_MS });
  const { exitCode, stderr } = await runner.run(['reboot'], { timeoutMs: REBOOT_TIMEOUT_MS });
  if (exitCode !== 0) throw new QxError('IO', `reboot failed (${exitCode}): ${stderr.trim().slice(0, 500)}`);
}

async function noteBoot(path: string): Promise<string> {
  await makeDirectories(dirname(path), 0o755);
  await writeNew(path, new TextEncoder().encode(randomUUID()), 0o644).catch((error) =>
    hasCode(error, 'EEXIST') ? undefined : Promise.reject(error),
  );
  return readFile(path, 'utf8');
}

async function wishReboot(path: string): Promise<void> {
  await makeDirectories(dirname(path), 0o755);
  await writeNew(path, new Uint8Array(), 0o644).catch((error) =>
    hasCode(error, 'EEXIST') ? undefined : Promise.reject(error),
  );
}
