import type { Slot } from './core/boot.ts';
import type { KernelWords } from './format/cmdline.ts';

/**
 * What the outside can do for us. Decisions never see these; the journeys in `agent/` and `server/` are told them, `system/`
 * implements them on the real machine, tests cut the power between any two calls.
 *
 * All paths are absolute host paths; an implementation for `--root DIR` prefixes them. Sizes are bytes, times are
 * milliseconds. Whatever fails throws a `QxError`, or an `Error` with the system's `code`.
 */

export interface Clock {
  /** Wall clock, milliseconds since 1970 in UTC. */
  nowMs(): number;
  /** Never steps; for durations. */
  monotonicMs(): number;
  /** Resolves early with CANCELLED when the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Whether a time service vouches for the wall clock. */
  isSynchronised(): Promise<boolean>;
}

export interface Random {
  /** 16 characters of [a-z0-9]: names an update, a trial boot, a temporary file. */
  id(): string;
  /** Uniform in [0, 1). */
  unit(): number;
}

export interface FileInfo {
  readonly kind: 'file' | 'directory' | 'symlink' | 'other';
  readonly sizeBytes: number;
  readonly mode: number;
}

export interface OpenFile {
  /** Appends at the current end. */
  append(bytes: Uint8Array): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Every mutating call has reached the disk (file and directory) when it returns, `OpenFile.append` excepted. */
export interface Files {
  /** Null when absent. Refuses more than `maxBytes` and anything that is not a regular file. */
  read(path: string, maxBytes: number): Promise<Uint8Array | null>;
  /** Does not follow a final symlink; null when absent. */
  info(path: string): Promise<FileInfo | null>;
  /** Names in a directory, sorted; empty when absent. */
  list(directory: string): Promise<readonly string[]>;
  readLink(path: string): Promise<string | null>;
  /** SHA-256 (lower-case hex) and size of a regular file, never following a final symlink. */
  hash(path: string, signal?: AbortSignal): Promise<{ readonly sha256: string; readonly sizeBytes: number }>;
  freeBytes(path: string): Promise<number>;

  /** Beside, fsync, rename over, fsync of the directory: after a power cut the old content or the new one. */
  writeAtomic(path: string, bytes: Uint8Array, mode?: number): Promise<void>;
  /** Creates missing parents; an existing directory keeps its mode. */
  makeDirectory(path: string, mode?: number): Promise<void>;
  /** Opens a regular file for appending after cutting it to `keepBytes`; creates it 0600. Refuses symlinks. */
  openPart(path: string, keepBytes: number): Promise<OpenFile>;
  /** Copies a regular file with its mode, or hard-links it where the file system can. The target must not exist. */
  duplicate(from: string, to: string): Promise<void>;
  setMode(path: string, mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Points `path` at `target`, replacing a symlink or file that is there, in one rename. */
  linkAtomic(target: string, path: string): Promise<void>;
  /** A file, symlink or whole tree; nothing happens when absent. */
  remove(path: string): Promise<void>;
  /** Null while another living process holds it. The file names the holder; a dead holder's lock is taken over. */
  lock(path: string): Promise<(() => Promise<void>) | null>;
}

/** Which bytes are meant, so that nothing else is taken for them when somebody swaps the file after it was checked. */
export interface ArchiveRef {
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface ExtractLimits {
  readonly maxBytes: number;
  readonly maxEntries: number;
}

export interface Archive {
  /**
   * Extracts a tar compressed by zstd or gzip (told apart by content) into a directory that it creates and that must not
   * exist. Only plain files and directories with plain names come out; anything else refuses the whole archive and removes
   * the directory. The bytes are hashed as they are read, and what does not hash as it should refuses too. Everything is on
   * disk when it returns. @throws ARCHIVE_UNSAFE | ARCHIVE_MALFORMED | ARCHIVE_TOO_LARGE | HASH_MISMATCH | SIZE_MISMATCH
   */
  extract(
    archive: ArchiveRef,
    directory: string,
    limits: ExtractLimits,
    signal?: AbortSignal,
  ): Promise<ExtractedArchive>;
}

export interface ExtractedArchive {
  /** Paths relative to the directory, sorted; directories end in `/`. */
  readonly entries: readonly string[];
  readonly sizeBytes: number;
}

export interface HttpLimits {
  /** No more than this many body bytes are ever delivered. @throws RESPONSE_TOO_LARGE */
  readonly maxBytes: number;
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** At least this many bytes in each window, or the transfer is given up. @throws DOWNLOAD_STALLED */
  readonly minBytesPerWindow: number;
  readonly windowMs: number;
}

export interface HttpResponse {
  readonly status: number;
  /** Lower-case names; a repeated header is joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** Must be read to its end or cancelled by returning from the loop; either frees the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface HttpRequest {
  readonly headers?: Readonly<Record<string, string>>;
  readonly limits: HttpLimits;
  readonly signal?: AbortSignal;
  /** The body of a 200 is an envelope: answered is what `detach` makes of it, or what it refuses it with. */
  readonly isEnvelope?: boolean;
  readonly tls?: TlsIdentity;
}

/** Who both ends of a connection are, where it is not left to the usual authorities. */
export interface TlsIdentity {
  /** Base64url SHA-256 of public keys (SPKI): a server that has one of them is believed, whoever vouches for it. */
  readonly pins?: readonly string[];
  /** No other one is believed. */
  readonly pinOnly?: boolean;
  /** PEM; shown to a server that asks. */
  readonly client?: { readonly certificate: string; readonly key: string };
}

export interface Http {
  /** Never follows a redirect, never decompresses, never sends what the caller did not give. @throws SERVER_UNREACHABLE */
  get(url: string, request: HttpRequest): Promise<HttpResponse>;
}

export interface Post {
  /** As `Http.get`, with a body that the server may act upon. It may have acted although this throws. @throws SERVER_UNREACHABLE */
  post(url: string, request: HttpRequest & { readonly body: string }): Promise<HttpResponse>;
}

export interface SlotDevice {
  /** Where its name leads: one device that is both slots shows itself here. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly kind: 'block' | 'file';
  /** Also through a loop device that lies over it, or by a device that is built on it. */
  readonly isMounted: boolean;
}

export interface OpenDevice {
  /** May still be on its way when this returns; that it failed is then told by the next call. The bytes are no longer needed. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Everything written so far is on the medium, the device's own cache included. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  /** Null when there is no such device. */
  device(slot: Slot): Promise<SlotDevice | null>;
  /** Exclusively, so that a mounted slot is refused by the kernel too. */
  openForWriting(slot: Slot): Promise<OpenDevice>;
  /** SHA-256 of `prefix` and then a byte range as the medium has it, past the page cache (O_DIRECT on a block device). */
  hashRange(
    slot: Slot,
    offset: number,
    lengthBytes: number,
    options?: { readonly prefix?: Uint8Array; readonly signal?: AbortSignal | undefined },
  ): Promise<string>;
  /** First bytes of the slot, past the page cache. */
  readStart(slot: Slot, lengthBytes: number): Promise<Uint8Array>;
  /**
   * Makes a fresh ext4 file system in a new file, as large as it must be to hold exactly this folder's files. In a file, not
   * on the slot: mke2fs writes in its own order, and over an older file system of the same shape GRUB could read half of each.
   */
  makeFileSystem(image: string, fromDirectory: string, label: string, signal?: AbortSignal): Promise<void>;
  /** SHA-256 of one file inside the slot's file system, read past the page cache. @throws READBACK_MISMATCH when absent */
  hashFileInSlot(slot: Slot, path: string, signal?: AbortSignal): Promise<string>;
  /** Which version an image says that it is; null when it does not say, or is none. */
  versionInImage(image: string): Promise<string | null>;
  /** The same for what lies on a slot, however it lies there. */
  versionOnSlot(slot: Slot): Promise<string | null>;
  /** Single files of a squashfs image, each to its own path below the directory. @throws IMAGE_UNBOOTABLE when one is missing */
  extractFromImage(image: string, paths: readonly string[], toDirectory: string, signal?: AbortSignal): Promise<void>;
}

export type EnvCopy = 'grubenv' | 'grubenv.bak';

/** What GRUB said on the kernel command line. */
export type Booted = KernelWords;

/** The GRUB environment as bytes; what they mean is decided by `format/grubenv.ts` and `core/boot.ts`. */
export interface Boot {
  booted(): Promise<Booted>;
  read(copy: EnvCopy): Promise<Uint8Array | null>;
  /** In place (GRUB replays no journal), fsynced, read back. @throws BOOT_ENV_INVALID when it reads back differently */
  write(copy: EnvCopy, bytes: Uint8Array): Promise<void>;
  /** Names this boot of the machine; another one after each restart of it. */
  bootId(): Promise<string>;
  /** Does not return to anything that matters: the machine restarts. */
  reboot(): Promise<void>;
}

export type ServiceState = 'started' | 'stopped' | 'crashed' | 'unknown';

export interface Services {
  /** Why services are not really run here (a folder without OpenRC), or null when they are. */
  readonly standIn: string | null;
  restart(name: string): Promise<void>;
  state(name: string): Promise<ServiceState>;
  /**
   * Names the run of the service that is going on; another one after each start, also after those by a supervisor, for which
   * a service that dies over and over is `started` all the time. Empty when it cannot be told.
   */
  instance(name: string): Promise<string>;
}

export interface ProcessResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Process {
  /** Arguments only, no shell, a scrubbed environment, bounded output. Killed after `timeoutMs`. */
  run(
    argv: readonly [string, ...string[]],
    options: { timeoutMs: number; signal?: AbortSignal; input?: Uint8Array },
  ): Promise<ProcessResult>;
}

/** Programs of the operator's on this host, by their host path. Run as `Process` runs its own. */
export interface Hooks {
  run(
    path: string,
    options: { args?: readonly string[]; timeoutMs: number; signal?: AbortSignal },
  ): Promise<ProcessResult>;
}

/** The agent of this host as its own health gate sees it. */
export interface LocalAgent {
  answers(): Promise<boolean>;
}

/** One line of what happened, for the log and the audit trail; `code` when something was refused. */
export interface Log {
  info(event: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(event: string, fields?: Readonly<Record<string, unknown>>): void;
}
