import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendEvent, CHAIN_START, readEvent } from '../../../src/format/audit.ts';
import { type Baseline, readBaseline } from '../../../src/format/baseline.ts';
import { writeDocument } from '../../../src/format/document.ts';
import { EMPTY_HISTORY, type HistoryEntry, readHistory, withEntry } from '../../../src/format/history.ts';
import { EMPTY_MEMORY, readJournal, readMemory } from '../../../src/format/journal.ts';
import { sampleJournal } from '../../support/journal.ts';
import { pure, type Target } from '../target.ts';
import { DICTIONARY, TRICKS } from './documents.ts';

/** What a host keeps of itself: whoever could spoil one of these files must not be able to stop its agent. */

const journal: Target = {
  name: 'journal',
  seeds: {
    ...TRICKS,
    valid: writeDocument(sampleJournal),
    newer: JSON.stringify({ ...sampleJournal, format: 2 }),
    'torn in the middle': writeDocument(sampleJournal).subarray(0, 300),
    empty: '',
  },
  dictionary: [
    ...DICTIONARY,
    ...Object.keys(sampleJournal).map((field) => `"${field}":`),
    '"state":"swapping"',
    '"trial"',
  ],
  refusals: /^STATE_(INVALID|TOO_NEW)$/,
  start: pure((bytes) => {
    const read = readJournal(bytes);
    const written = writeDocument(read);
    assert.deepEqual(writeDocument(readJournal(written)), written);
  }),
};

const memory: Target = {
  name: 'memory',
  seeds: {
    ...TRICKS,
    valid: writeDocument({ ...EMPTY_MEMORY, high_water: { 'quantix-os/dev/1': 3 }, floor: '1.0.0' }),
    '10^5 bad releases': JSON.stringify({ ...EMPTY_MEMORY, bad: Array(100_000).fill({}) }),
  },
  dictionary: [...DICTIONARY, ...Object.keys(EMPTY_MEMORY).map((field) => `"${field}":`), '"quantix-os/dev/1":'],
  refusals: /^STATE_(INVALID|TOO_NEW)$/,
  start: pure((bytes) => {
    const read = readMemory(bytes);
    const written = writeDocument(read);
    assert.deepEqual(writeDocument(readMemory(written)), written);
  }),
};

const ended: HistoryEntry = {
  id: 'abcdefgh',
  product: 'quantix-os',
  channel: 'dev',
  version: '1.1.0',
  previous_version: '1.0.0',
  result: 'failed',
  started_at: '2026-11-10T12:00:00Z',
  finished_at: '2026-11-10T12:01:00Z',
  code: 'NO_SPACE',
};

const history: Target = {
  name: 'history',
  seeds: { ...TRICKS, valid: writeDocument(withEntry(EMPTY_HISTORY, ended)), empty: '' },
  dictionary: [...DICTIONARY, ...Object.keys(ended).map((field) => `"${field}":`), '"totals":', '"entries":'],
  refusals: /^STATE_(INVALID|TOO_NEW)$/,
  start: pure((bytes) => {
    const written = writeDocument(readHistory(bytes));
    assert.deepEqual(writeDocument(readHistory(written)), written);
  }),
};

const before: Baseline = {
  format: 1,
  id: 'update0000000001',
  taken_at: '2026-11-10T12:00:00Z',
  facts: ['service sshd', 'bridge br0', '10-vms: web1'],
  contact: true,
};

const baseline: Target = {
  name: 'baseline',
  seeds: { ...TRICKS, valid: writeDocument(before), empty: '' },
  dictionary: [...DICTIONARY, ...Object.keys(before).map((field) => `"${field}":`)],
  refusals: /^STATE_(INVALID|TOO_NEW)$/,
  start: pure((bytes) => {
    const written = writeDocument(readBaseline(bytes));
    assert.deepEqual(writeDocument(readBaseline(written)), written);
  }),
};

const { line } = appendEvent(CHAIN_START, {
  at: '2026-11-10T12:00:00Z',
  event: 'release_refused',
  code: 'DOWNGRADE',
  detail: 'older',
  fields: { product: 'quantix-os', held: false, count: 3, route: null },
});

const audit: Target = {
  name: 'audit',
  seeds: { ...TRICKS, valid: line.trimEnd(), 'without its hash': line.replace(/,"hash".*/, '}') },
  dictionary: [...DICTIONARY, '"seq":', '"prev":', ',"hash":"', '0'.repeat(64), '"fields":{'],
  refusals: /^AUDIT_BROKEN$/,
  // The hash of what was changed is made anew, as somebody would who edits the log.
  repair: (bytes) => {
    const body = new TextDecoder().decode(bytes).replace(/,"hash":"[a-f0-9]{64}"\}$/, '}');
    const hash = createHash('sha256').update(body).digest('hex');
    return new TextEncoder().encode(`${body.slice(0, -1)},"hash":"${hash}"}`);
  },
  start: pure((bytes) => {
    const event = readEvent(new TextDecoder().decode(bytes));
    assert.ok(Number.isSafeInteger(event.seq) && event.seq > 0);
  }),
};

export const records: readonly Target[] = [journal, memory, history, baseline, audit];
