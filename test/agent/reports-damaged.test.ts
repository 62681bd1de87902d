import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { keptReports, unheard } from '../../src/agent/maintenance/reports.ts';
import type { Outcome } from '../../src/ports/offer.ts';
import { hostFiles } from '../../src/system/files.ts';
import { recordedLog } from '../support/fakes.ts';
import { temporaryFolder } from '../support/temp.ts';

const FOLDER = 'quantix/limiquantix/reports';

const outcome = (id: string): Outcome => ({
  id,
  release: { product: 'quantix-os', channel: 'dev', version: '2.0.0' },
  result: 'complete',
  at: '2026-11-27T12:00:00Z',
});

async function setUp() {
  const root = await temporaryFolder();
  await mkdir(join(root, FOLDER), { recursive: true });
  const files = hostFiles(root);
  const log = recordedLog();
  const ids = async () => {
    const told: string[] = [];
    for await (const one of unheard({ files, log })) {
      told.push(one.id);
      await one.heard();
    }
    return told;
  };
  return { root, log, ids, keep: (id: string) => keptReports(files, async () => true).outcome(outcome(id)) };
}

test('a report that is damaged is put aside, and keeps none behind it from being heard', async () => {
  const { root, log, ids, keep } = await setUp();
  await keep('first');
  await writeFile(join(root, FOLDER, '0000000001.json'), '{"format": 1, "id"');
  await keep('second');
  expect(await ids()).toEqual(['second']);
  expect(log.lines).toMatchObject([{ level: 'warn', event: 'report_set_aside' }]);
  expect(await readdir(join(root, FOLDER))).toEqual(['0000000001.json.bad']);
});

test('what was put aside is read no more, and the next report has a number', async () => {
  const { root, ids, keep } = await setUp();
  await writeFile(join(root, FOLDER, '0000000007.json.bad'), 'rubbish');
  await keep('third');
  expect((await readdir(join(root, FOLDER))).toSorted()).toEqual(['0000000001.json', '0000000007.json.bad']);
  expect(await ids()).toEqual(['third']);
});
