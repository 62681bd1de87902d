import type { Hardware } from '../format/host-identity.ts';

/**
 * Whether the machine that a disk runs in is the one that its identity was made on. A part that was replaced must not lock a
 * host out, and a copy must not pass for the original: the parts vote, and what repeats in templates has no vote of its own.
 */

export type Mark = keyof Hardware;
export type Compared = 'same' | 'differs' | 'unknown';

/** A list is the same while one part of it is still there. */
export function compareHardware(bound: Hardware, now: Hardware): Readonly<Record<Mark, Compared>> {
  const one = (a: string | null, b: string | null): Compared =>
    a === null || b === null ? 'unknown' : a === b ? 'same' : 'differs';
  const many = (a: readonly string[], b: readonly string[]): Compared =>
    a.length === 0 || b.length === 0 ? 'unknown' : a.some((part) => b.includes(part)) ? 'same' : 'differs';
  return {
    uuid: one(bound.uuid, now.uuid),
    board: one(bound.board, now.board),
    cards: many(bound.cards, now.cards),
    disks: many(bound.disks, now.disks),
  };
}

const VOTES: Readonly<Record<Compared, number>> = { same: 1, differs: -1, unknown: 0 };

/**
 * Board, network cards and disk have a vote each, and the majority has it. The UUID decides between equal votes only: alone it
 * can tell that a machine is another one, and never that it is the same where a part says otherwise. Where nothing can be
 * compared, as in a folder or without firmware tables, nobody can tell.
 */
export function isSameMachine(bound: Hardware, now: Hardware): boolean {
  const { uuid, board, cards, disks } = compareHardware(bound, now);
  const votes = VOTES[board] + VOTES[cards] + VOTES[disks];
  return votes === 0 ? uuid !== 'differs' : votes > 0;
}

/** Of the same machine: parts that were replaced count from now on; what cannot be read at this moment stays known. */
export const refreshed = (bound: Hardware, now: Hardware): Hardware => ({
  uuid: now.uuid ?? bound.uuid,
  board: now.board ?? bound.board,
  cards: now.cards.length > 0 ? now.cards : bound.cards,
  disks: now.disks.length > 0 ? now.disks : bound.disks,
});

/** What makers and hypervisors write where they have no number: the same in every machine of theirs. */
const NO_NUMBER = [
  /^(?:none|n\/?a|not (?:specified|applicable|available)|unknown|undefined|default string|system serial number|base board serial number|serial)$/i,
  /^to be filled/i,
  /^(?:0123456789|1234567890|123456789)/,
  // One character over and over: zeros, dots, a row of f.
  /^[^a-z0-9]*([a-z0-9])(?:\1|[^a-z0-9])*$/i,
  /^[^a-z0-9]*$/i,
  // Of boards whose maker gave all of them one UUID.
  /^03000200-0400-0500-0006-000700080009$/i,
  // QEMU's own network cards and disks, unless somebody named them.
  /^52:54:00:12:34:/,
  /(?:^|\s)(?:QM0000\d|drive-(?:scsi|virtio|sata|ide)\d+)$/,
];

const MAX_LENGTH = 200;

/** Null for what tells no machine from another. */
export function usableMark(text: string): string | null {
  const mark = text
    .replaceAll(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .replaceAll(/ +/g, ' ')
    .slice(0, MAX_LENGTH);
  return NO_NUMBER.some((pattern) => pattern.test(mark)) ? null : mark;
}
