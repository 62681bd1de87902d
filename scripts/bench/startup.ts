import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compare, detailOf, timed } from './measure.ts';
import type { Row } from './row.ts';

const PAIRS = 31;

/** What the five names cost before they do anything, against Node itself. */
export const startup: Row = {
  name: 'startup',
  title: '`qx-update --version` against a bare one-line `node` script, CPU',
  unit: 'x',
  goal: 1.15,
  measure: async ({ folder, pairs }) => {
    const script = join(folder, 'one-line.js');
    await writeFile(script, "console.log('bare');\n");
    const run = (...command: string[]) => timed('"$@" >/dev/null', ...command);
    const compared = await compare(
      () => run('dist/qx-update', '--version'),
      () => run(process.execPath, script),
      pairs ?? PAIRS,
    );
    return { value: compared.cpuRatio, detail: detailOf(compared) };
  },
};
