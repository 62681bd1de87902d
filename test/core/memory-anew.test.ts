import { describe, expect, test } from 'vitest';
import { memoryFrom } from '../../src/core/memory-anew.ts';
import type { Journal } from '../../src/format/journal.ts';
import { sampleJournal } from '../support/journal.ts';

const journal = (more: Partial<Journal>): Journal => ({
  ...sampleJournal,
  ...{ phase: 'complete', pending: false, target_version: '1.2.0', previous_version: '1.1.0', components: [] },
  ...more,
});

describe('a memory that is begun anew has no floor below the one that was lost', () => {
  test.each<[string, Journal | null, string | null, string | null]>([
    ['what runs', null, '1.2.0', '1.2.0'],
    ['nothing where nothing is known', null, null, null],
    ['what ran before the last update, which may be taken back', journal({}), '1.2.0', '1.1.0'],
    ['what the last update asked for', journal({ min_rollback_version: '1.1.5' }), '1.2.0', '1.1.5'],
    ['not what it asked for where more was asked before', journal({ min_rollback_version: '0.9.0' }), '1.2.0', '1.1.0'],
    ['after an update of components, which the image knows nothing of', journal({}), '1.1.0', '1.1.0'],
    ['what runs, after an update that failed', journal({ phase: 'failed' }), '1.1.0', '1.1.0'],
    ['what runs, after one that was taken back', journal({ phase: 'rolledBack' }), '1.1.0', '1.1.0'],
    ['what runs, while one waits for its reboot', journal({ phase: 'armed', pending: true }), '1.1.0', '1.1.0'],
    ['what runs, after some components of a release', journal({ is_whole: false }), '1.1.0', '1.1.0'],
    ['what runs, where that came another way', journal({}), '1.3.0', '1.3.0'],
  ])('%s', (_, last, osVersion, floor) => {
    expect(memoryFrom(last, osVersion)).toMatchObject({ floor, high_water: {}, bad: [], slots: { A: null, B: null } });
  });

  test('and knows the release that it has', () => {
    expect(memoryFrom(journal({}), '1.2.0').committed).toMatchObject({ version: '1.2.0' });
    expect(memoryFrom(journal({ phase: 'failed' }), '1.1.0').committed).toBeNull();
  });
});
