import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';

/**
 * The log of a host lies in memory and its supervisor only appends to it. Nobody else bounds it, so its writer does: over
 * MAX_BYTES its last part becomes FILE.1 and the file begins anew, in place, because the supervisor has it open as well.
 * Together they stay below twice MAX_BYTES. Nothing here may stop the program that only wants to say something.
 */

const MAX_BYTES = 8 << 20;
const PIECE_BYTES = 1 << 20;
const LONGEST_WAIT_TRIES = 100;

export interface Output {
  write(line: string): void;
}

export function boundedOutput(fd: number, maxBytes = MAX_BYTES): Output {
  const isBounded = isAppendedFile(fd);
  // Also at the start: an agent that crashes again and again writes little in each life.
  if (isBounded) bound(fd, maxBytes, 0);
  return {
    write: (line) => {
      const bytes = Buffer.from(line);
      if (isBounded) bound(fd, maxBytes, bytes.length);
      writeAll(fd, bytes);
    },
  };
}

/** Cut to nothing, a file that is not opened for appending would go on where it was, with a hole before it. */
function isAppendedFile(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '0';
    return fstatSync(fd).isFile() && (Number.parseInt(flags, 8) & constants.O_APPEND) !== 0;
  } catch {
    return false;
  }
}

function bound(fd: number, maxBytes: number, moreBytes: number): void {
  try {
    const { size } = fstatSync(fd);
    if (size === 0 || size + moreBytes <= maxBytes) return;
    const isKept = keepTail(fd, size, maxBytes);
    // Also when nothing could be kept: a log that fills the memory of the host takes more than what it knew.
    ftruncateSync(fd, 0);
    if (!isKept)
      writeAll(fd, Buffer.from('{"level":40,"msg":"log_cut","detail":"the earlier part could not be kept"}\n'));
  } catch {
    // A file system that has become read-only: what is written next fails as well, and neither may end the program.
  }
}

/** The last `maxBytes`, from the first whole line on. */
function keepTail(fd: number, sizeBytes: number, maxBytes: number): boolean {
  const path = readlinkSync(`/proc/self/fd/${fd}`);
  const [kept, beside] = [`${path}.1`, `${path}.1.qx-new`];
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    rmSync(beside, { force: true });
    const from = openSync(`/proc/self/fd/${fd}`, 'r');
    const to = openSync(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      copyLines(from, to, Math.max(0, sizeBytes - maxBytes));
    } finally {
      closeSync(from);
      closeSync(to);
    }
    renameSync(beside, kept);
    return true;
  } catch {
    rmSync(beside, { force: true });
    return false;
  }
}

function copyLines(from: number, to: number, startBytes: number): void {
  const piece = Buffer.allocUnsafe(PIECE_BYTES);
  for (let at = startBytes; ; ) {
    const length = readSync(from, piece, 0, PIECE_BYTES, at);
    if (length === 0) return;
    const skipped = at === startBytes && at > 0 ? piece.subarray(0, length).indexOf('\n') + 1 : 0;
    for (let done = skipped; done < length; ) done += writeSync(to, piece, done, length - done);
    at += length;
  }
}

/** A pipe whose reader is slow, or gone, and a disk that is full lose lines; they do not stop the program. */
function writeAll(fd: number, bytes: Uint8Array): void {
  let tries = 0;
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || ++tries > LONGEST_WAIT_TRIES) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}
