import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import { type Static, Type } from 'typebox';
import { QxError } from '../errors.ts';
import { readJson } from './json.ts';
import { checkShape, INSTANT_PATTERN, SHA256_PATTERN } from './schema.ts';
import { readableText } from './text.ts';

/**
 * The audit log of a host: one line of JSON for each refusal and each change. Every line holds the hash of the one before it, so
 * that a line which was edited, taken out or put in breaks the chain at that place. Lines are kept in segments, files of a bounded
 * size that are named by the number of their first event.
 */

/** What is worth an event. A refusal carries a code, a change carries none. */
export const AUDIT_EVENTS = {
  agent_started: 'the agent began to run',
  request_refused: 'somebody asked for what they may not have, or in a way that makes no sense',
  release_refused: 'a release was not believed, not wanted, or could not be had',
  update_requested: 'somebody asked for an update, a download or an offline bundle',
  update_started: 'an update has begun to change this host',
  update_armed: 'a system image waits for its trial boot',
  update_finished: 'an update is complete, was taken back, or failed',
  slot_marked: 'somebody said by hand whether a slot may boot',
  slot_unhealthy: 'a trial boot was given up',
  boot_contradicted: 'what GRUB says of this boot is not what this host believes',
  mount_accepted: "a person said that what is mounted there is this host's own",
  boot_unhealthy: 'an ordinary boot was not healthy',
  reboot_requested: 'a reboot was asked for, or is due',
  settings_changed: 'settings of the agent were changed',
  token_rotated: 'the API token was replaced',
  updates_held: 'updates were put on hold',
  updates_released: 'the hold on updates was lifted',
  memory_begun_anew: 'what this host remembers could not be read, and somebody had it begun anew',
  status_reset: 'the outcome of the last update was dismissed',
  fleet_joined: 'this host became a member of a fleet',
  fleet_left: 'this host forgot the fleet that it belonged to',
  identity_copied: 'what lies on this disk was made on another machine: this host has an id of its own from then on',
  identity_kept: 'somebody said that this host is the one that its identity was made on',
  drain_begun: 'the programs in drain.d were told to empty this host',
  drain_given_up: 'this host did not become empty, or did not go down; its place was given back',
  place_not_given_back: 'whoever gave this host its place could not be told that it is over',
} as const;
export type AuditEventName = keyof typeof AUDIT_EVENTS;

const Text = Type.String({ maxLength: 2000 });

export const AuditEvent = Type.Object({
  format: Type.Literal(1),
  seq: Type.Integer({ minimum: 1 }),
  at: Type.String({ pattern: INSTANT_PATTERN }),
  event: Type.String({ pattern: '^[a-z_]{1,64}$' }),
  code: Type.Optional(Type.String({ pattern: '^[A-Z0-9_]{1,64}$', description: 'why it was refused, or what failed' })),
  actor: Type.Optional(Text),
  detail: Type.Optional(Text),
  fields: Type.Optional(Type.Record(Type.String(), Type.Union([Text, Type.Integer(), Type.Boolean(), Type.Null()]))),
  prev: Type.String({ pattern: SHA256_PATTERN, description: 'hash of the line before; zeros for the first one ever' }),
  hash: Type.String({ pattern: SHA256_PATTERN, description: 'SHA-256 of this line without this member' }),
});
export type AuditEvent = Static<typeof AuditEvent>;

/** The last event of a chain, and what the next one continues. */
export interface ChainHead {
  readonly seq: number;
  readonly hash: string;
}

export const CHAIN_START: ChainHead = { seq: 0, hash: '0'.repeat(64) };

export type NewEvent = Pick<AuditEvent, 'at' | 'event'> &
  Partial<Pick<AuditEvent, 'code' | 'actor' | 'detail' | 'fields'>>;

const MAX_TEXT = 1000;

/** A version or a key id that came over the network must not turn text around or steer the terminal of whoever reads it. */
const plain = (text: string): string =>
  readableText(text.slice(0, MAX_TEXT)).replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd');

const plainValue = <T>(value: T): T | string => (typeof value === 'string' ? plain(value) : value);

/** The line for an event, its line feed included, and the head of the chain that it makes. */
export function appendEvent(
  head: ChainHead,
  { at, event, code, actor, detail, fields }: NewEvent,
): { line: string; head: ChainHead } {
  const seq = head.seq + 1;
  const body = JSON.stringify({
    format: 1,
    seq,
    at,
    event,
    ...(code === undefined ? {} : { code }),
    ...(actor === undefined ? {} : { actor: plain(actor) }),
    ...(detail === undefined ? {} : { detail: plain(detail) }),
    ...(fields === undefined
      ? {}
      : {
          fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [plain(name), plainValue(value)])),
        }),
    prev: head.hash,
  });
  const hash = hashOf(body);
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}\n`, head: { seq, hash } };
}

const hashOf = (text: string): string => bytesToHex(sha256(utf8ToBytes(text)));

const HASH_MEMBER = /,"hash":"([a-f0-9]{64})"\}$/;

/** One line, without its line feed. @throws QxError AUDIT_BROKEN when it is not one that was written here, or was changed since */
export function readEvent(line: string): AuditEvent {
  const hash = HASH_MEMBER.exec(line)?.[1];
  if (hash === undefined || hashOf(line.replace(HASH_MEMBER, '}')) !== hash)
    throw broken('was changed after it was written');
  const { value } = readJson(new TextEncoder().encode(line), 'the event', 'AUDIT_BROKEN');
  return checkShape(AuditEvent, value, 'the event', 'AUDIT_BROKEN');
}

/** Holds an event against the one before it. @throws QxError AUDIT_BROKEN */
export function expectNext(before: ChainHead, event: AuditEvent): ChainHead {
  if (event.seq !== before.seq + 1) throw broken(`is number ${event.seq} where ${before.seq + 1} has to follow`);
  if (event.prev !== before.hash) throw broken('does not continue the line before it');
  return { seq: event.seq, hash: event.hash };
}

const broken = (how: string): QxError => new QxError('AUDIT_BROKEN', how);

const SEGMENT = /^audit-([0-9]{12})\.jsonl$/;

export const segmentName = (firstSeq: number): string => `audit-${String(firstSeq).padStart(12, '0')}.jsonl`;

/** Names of segments among those of a folder, oldest first. */
export const segmentsAmong = (names: readonly string[]): readonly string[] =>
  names.filter((name) => SEGMENT.test(name)).sort();

export const firstSeqOf = (segment: string): number => Number(SEGMENT.exec(segment)?.[1] ?? 0);

/** For people. */
export const eventsInWords = (count: number): string => (count === 1 ? '1 event' : `${count} events`);
