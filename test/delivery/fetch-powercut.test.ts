import { expect, test } from 'vitest';
import { hostFiles } from '../../src/system/files.ts';
import { badServer, serve } from '../support/bad-server.ts';
import { refusal } from '../support/documents.ts';
import { type FetchBench, fetchBench, noise } from '../support/fetch-bench.ts';
import { cutAfter } from '../support/powercut.ts';

const bytes = noise(200_000);
const half = bytes.subarray(0, 100_000);
const other = noise(200_000, 2);

const beginnings: readonly [string, (bench: FetchBench) => Promise<void>][] = [
  ['nothing', async () => undefined],
  ['half of it', async (bench) => bench.leave(bench.partPath, half).then(() => bench.leave(bench.etagPath, '"one"'))],
  [
    'half of it, of an older file',
    async (bench) => bench.leave(bench.partPath, half).then(() => bench.leave(bench.etagPath, '"old"')),
  ],
  ['a poisoned half', (bench) => bench.leave(bench.partPath, other.subarray(0, 100_000))],
  ['the artifact of the release before', (bench) => bench.leave(bench.finalPath, other)],
];

test.each(beginnings)('T33 the power fails after each single effect, beginning with %s', async (_title, begin) => {
  const server = await badServer(serve(bytes));
  for (const torn of [false, true]) {
    for (let count = 0, wasCut = true; wasCut; count++) {
      const bench = await fetchBench(bytes);
      await begin(bench);
      const before = await bench.content(bench.finalPath);
      const { ports, isOff } = cutAfter({ files: hostFiles(bench.at('/')) }, count, { torn });
      const code = await refusal(() => bench.fetch([server], {}, ports.files));
      wasCut = isOff();
      expect(code).toBe(wasCut ? 'PowerCut' : null);
      const found = await bench.content(bench.finalPath);
      expect(
        found === null || [bytes, before].some((known) => known !== null && Buffer.from(found).equals(known)),
      ).toBe(true);

      await bench.fetch([server]);
      expect(Buffer.from((await bench.content(bench.finalPath)) ?? []).equals(bytes)).toBe(true);
    }
  }
});
