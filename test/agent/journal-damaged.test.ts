import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { confirm } from '../../src/agent/confirm.ts';
import { settleAtStart } from '../../src/agent/daemon.ts';
import { PATHS } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { rollback } from '../../src/agent/rollback.ts';
import { agentBench } from '../support/agent-bench.ts';
import { journalOf } from '../support/agent-machine.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** As the first agent of Quantix-OS wrote it: the same path, no format. */
const ANCESTOR = '{"previous_slot": "A", "target_slot": "B", "target_version": "0.0.6", "pending": true}';

requires({ commands: IMAGE_COMMANDS })('a journal that cannot be read', () => {
  const bench = agentBench();
  const hostWith = async (journal: string) => {
    const release = await bench.release('2.0.0', { components: { 'qx-console': '2.0.0' } });
    const host = await bench.host([release]);
    await writeFile(join(host.root, PATHS.journal), journal);
    return host;
  };

  describe.each([
    ['half of one', '{"format": 1, "id": '],
    ["the ancestor's", ANCESTOR],
    ['nothing', ''],
  ])('%s', (_, journal) => {
    test('is kept aside, said in the log, and keeps nobody from an update', async () => {
      const host = await hostWith(journal);
      expect(await install(host, {}, {})).toMatchObject({ kind: 'complete', version: '2.0.0' });
      expect((await journalOf(host.root))?.phase).toBe('complete');
      expect(await readFile(join(host.root, `${PATHS.journal}.bad`), 'utf8')).toBe(journal);
    });

    test('neither from starting, confirming or rolling back', async () => {
      expect(await settleAtStart(await hostWith(journal))).toBe(false);
      expect(await confirm(await hostWith(journal))).toMatchObject({ code: 'NOTHING_TO_CONFIRM' });
      expect(await rollback(await hostWith(journal), 'test')).toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
    });
  });

  test('of a newer agent stays where it is', async () => {
    const host = await hostWith('{"format": 2}');
    await expect(install(host, {}, {})).rejects.toMatchObject({ code: 'STATE_TOO_NEW' });
    expect(await readFile(join(host.root, PATHS.journal), 'utf8')).toBe('{"format": 2}');
  });
});
