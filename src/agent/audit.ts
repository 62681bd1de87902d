import { asQxError, fieldsOf, QxError } from '../errors.ts';
import {
  type AuditEvent,
  appendEvent,
  CHAIN_START,
  type ChainHead,
  expectNext,
  firstSeqOf,
  readEvent,
  segmentName,
  segmentsAmong,
} from '../format/audit.ts';
import type { Audit, AuditRecord } from '../ports/audit.ts';
import type { Clock, Files, Log } from '../ports.ts';
import { instant } from './host.ts';

/**
 * Keeps the audit log of this host in `/quantix`, which both slots share. The agent and the command line tools write to one
 * chain: whoever appends holds a lock, and looks first what is really there.
 */

export interface AuditMachine {
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
  /** Why the log is not there; a chain is not begun anew in the folder of a mount that failed. */
  readonly lost?: () => Promise<QxError | null>;
}

export const AUDIT_FOLDER = '/quantix/limiquantix/audit';
/** Where the chain ended when it was last written to: without it nobody could tell that its last lines were cut off. */
const HEAD = `${AUDIT_FOLDER}/head`;
const LOCK = '/run/quantix/audit.lock';
/** Nothing mends a chain: what is left of it is kept for whoever looks into it, and the next event begins another one. */
export const BEGIN_ANEW = `keep it for whoever looks into it, and begin another: mv ${AUDIT_FOLDER} ${AUDIT_FOLDER}.bad`;
const SEGMENT_BYTES = 512 << 10;
const KEPT_SEGMENTS = 16;
const MAX_SEGMENT_BYTES = SEGMENT_BYTES + (64 << 10);
const LOCK_TRIES = 100;
const LOCK_PAUSE_MS = 20;

export function auditLog(machine: AuditMachine): Audit {
  const queue: { last: Promise<void> } = { last: Promise.resolve() };
  const keep = async (record: AuditRecord): Promise<void> => {
    try {
      const lost = (await machine.lost?.()) ?? null;
      if (lost !== null) throw lost;
      await withLock(machine, () => append(machine, record));
    } catch (error) {
      machine.log.warn('audit_not_kept', { event: record.event, ...fieldsOf(error) });
    }
  };
  return {
    record: (record) => {
      // One after the other: each continues the line before it.
      queue.last = queue.last.then(() => keep(record));
      return queue.last;
    },
  };
}

async function withLock(machine: AuditMachine, act: () => Promise<void>): Promise<void> {
  for (let tries = 0; tries < LOCK_TRIES; tries++) {
    const unlock = await machine.files.lock(LOCK);
    if (unlock !== null) return act().finally(unlock);
    await machine.clock.sleep(LOCK_PAUSE_MS);
  }
  throw new QxError('BUSY', 'another process holds the audit log', {
    next: 'repeat it; if that does not help: cat /run/quantix/audit.lock names the process that hangs',
  });
}

interface End {
  readonly segment: string;
  readonly sizeBytes: number;
  readonly head: ChainHead;
}

async function append(machine: AuditMachine, record: AuditRecord): Promise<void> {
  const { files, clock } = machine;
  await files.makeDirectory(AUDIT_FOLDER, 0o700);
  const end = await endOfChain(files);
  const { line, head } = appendEvent(end.head, { at: instant(clock), ...record });
  const isFull = end.sizeBytes >= SEGMENT_BYTES;
  const segment = isFull ? segmentName(head.seq) : end.segment;
  const file = await files.openPart(`${AUDIT_FOLDER}/${segment}`, isFull ? 0 : end.sizeBytes);
  try {
    await file.append(new TextEncoder().encode(line));
    await file.sync();
  } finally {
    await file.close();
  }
  await files.writeAtomic(HEAD, new TextEncoder().encode(`${head.seq} ${head.hash}\n`), 0o600);
  if (isFull) await prune(machine);
}

async function prune({ files }: AuditMachine): Promise<void> {
  const segments = segmentsAmong(await files.list(AUDIT_FOLDER));
  for (const segment of segments.slice(0, -KEPT_SEGMENTS)) await files.remove(`${AUDIT_FOLDER}/${segment}`);
}

/**
 * Where the next line goes. A power cut may have left half a line, which is cut off, or a whole one that the head does not know
 * yet. Whatever else does not fit stays as it is: the chain goes on from the head, and verifying finds the place.
 */
async function endOfChain(files: Files): Promise<End> {
  const known = await readHead(files);
  const segment = segmentsAmong(await files.list(AUDIT_FOLDER)).at(-1);
  if (segment === undefined)
    return { segment: segmentName((known ?? CHAIN_START).seq + 1), sizeBytes: 0, head: known ?? CHAIN_START };
  const text = await readText(files, `${AUDIT_FOLDER}/${segment}`);
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const last = lastEvent(whole);
  const head = last !== null && (known === null || continues(known, last)) ? last : (known ?? CHAIN_START);
  return { segment, sizeBytes: new TextEncoder().encode(whole).length, head };
}

const continues = (head: ChainHead, { seq, prev }: AuditEvent): boolean => seq === head.seq + 1 && prev === head.hash;

function lastEvent(text: string): AuditEvent | null {
  try {
    return readEvent(text.trimEnd().slice(text.trimEnd().lastIndexOf('\n') + 1));
  } catch {
    return null;
  }
}

async function readText(files: Files, path: string): Promise<string> {
  const bytes = await files.read(path, MAX_SEGMENT_BYTES);
  return bytes === null ? '' : new TextDecoder().decode(bytes);
}

async function readHead(files: Files): Promise<ChainHead | null> {
  const bytes = await files.read(HEAD, 1024);
  const match = /^([0-9]{1,15}) ([a-f0-9]{64})\n$/.exec(new TextDecoder().decode(bytes ?? new Uint8Array()));
  return match === null ? null : { seq: Number(match[1]), hash: match[2] as string };
}

export interface AuditVerdict {
  readonly ok: boolean;
  readonly events: number;
  readonly firstSeq: number | null;
  readonly lastSeq: number | null;
  /** The first place where the chain does not hold. */
  readonly broken: { readonly segment: string; readonly line: number; readonly detail: string } | null;
}

export interface AuditReading {
  readonly events: readonly AuditEvent[];
  readonly verdict: AuditVerdict;
}

/** Every event that is kept, up to the first place where the chain does not hold. Changes nothing. */
export async function readAudit(files: Files): Promise<AuditReading> {
  const events: AuditEvent[] = [];
  const broken = await readChain(files, events);
  const firstSeq = events[0]?.seq ?? null;
  const lastSeq = events.at(-1)?.seq ?? null;
  return { events, verdict: { ok: broken === null, events: events.length, firstSeq, lastSeq, broken } };
}

async function readChain(files: Files, events: AuditEvent[]): Promise<AuditVerdict['broken']> {
  const segments = segmentsAmong(await files.list(AUDIT_FOLDER));
  for (const segment of segments) {
    const lines = (await readText(files, `${AUDIT_FOLDER}/${segment}`)).split('\n');
    // What follows the last line feed is half a line that a power cut left; the next event takes its place.
    for (const [at, line] of lines.slice(0, -1).entries()) {
      const fault = faultOf(line, events, firstSeqOf(segment), at === 0);
      if (fault !== null) return { segment, line: at + 1, detail: fault };
    }
  }
  return missingEnd(await readHead(files), events.at(-1), segments.at(-1));
}

/** Takes the line in, or says what is wrong with it. */
function faultOf(line: string, events: AuditEvent[], firstSeq: number, isFirst: boolean): string | null {
  try {
    const event = readEvent(line);
    const before = events.at(-1);
    if (isFirst && event.seq !== firstSeq) return `is number ${event.seq}, its segment begins with ${firstSeq}`;
    // What came before the oldest segment that is kept was thrown away; the very first event continues nothing.
    if (before !== undefined || event.seq === 1) expectNext(before ?? CHAIN_START, event);
    events.push(event);
    return null;
  } catch (error) {
    return asQxError(error).message;
  }
}

function missingEnd(
  head: ChainHead | null,
  last: AuditEvent | undefined,
  segment: string | undefined,
): AuditVerdict['broken'] {
  if (head === null && last === undefined) return null;
  const detail = (what: string) => ({ segment: segment ?? 'none', line: 0, detail: what });
  // The head is written after the line: one event more than it knows is a power cut, fewer are lines that were cut off.
  if (head === null) return last?.seq === 1 ? null : detail('the head of the chain is missing');
  const isThere = last !== undefined && (last.seq === head.seq ? last.hash === head.hash : last.seq === head.seq + 1);
  return isThere ? null : detail(`ends with number ${last?.seq ?? 0}, ${head.seq} was written`);
}
