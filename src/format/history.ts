import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';
import { Timings } from './journal.ts';
import { ChannelName, ProductName } from './manifest.ts';

/** `/quantix/limiquantix/history.json`: how the updates of this host ended, newest last. */

export const HistoryEntry = Type.Object({
  id: Type.String(),
  product: ProductName,
  channel: ChannelName,
  version: Type.String(),
  previous_version: Type.String(),
  result: Type.Enum(['complete', 'rolled_back', 'failed']),
  started_at: Type.String(),
  finished_at: Type.String(),
  code: Type.Optional(Type.String()),
  detail: Type.Optional(Type.String()),
  timings: Type.Optional(Timings),
});
export type HistoryEntry = Static<typeof HistoryEntry>;

export const History = Type.Object({
  format: Type.Literal(1),
  /** Of all time, also of those that are not listed any more. */
  totals: Type.Object({
    complete: Type.Integer({ minimum: 0 }),
    rolled_back: Type.Integer({ minimum: 0 }),
    failed: Type.Integer({ minimum: 0 }),
    /** Of those that were rolled back, the ones that somebody wanted so. */
    taken_back: Type.Optional(Type.Integer({ minimum: 0 })),
  }),
  entries: Type.Array(HistoryEntry),
});
export type History = Static<typeof History>;

export const EMPTY_HISTORY: History = { format: 1, totals: { complete: 0, rolled_back: 0, failed: 0 }, entries: [] };

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readHistory = (bytes: Uint8Array): History =>
  readVersioned(bytes, History, '/quantix/limiquantix/history.json', 'the host then forgets how its updates ended');

const KEPT_ENTRIES = 100;

/** An update that is finished once more after a crash counts once; one that is complete may still be rolled back. */
export function withEntry(history: History, entry: HistoryEntry): History {
  if (history.entries.some(({ id, result }) => id === entry.id && result === entry.result)) return history;
  return {
    ...history,
    totals: {
      ...history.totals,
      [entry.result]: history.totals[entry.result] + 1,
      ...(entry.code === 'ROLLED_BACK' ? { taken_back: (history.totals.taken_back ?? 0) + 1 } : {}),
    },
    entries: [...history.entries, entry].slice(-KEPT_ENTRIES),
  };
}
