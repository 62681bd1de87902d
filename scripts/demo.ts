import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chapter, say } from './demo/show.ts';
import { tell } from './demo/story.ts';

// npm runs this in the folder of package.json, and so does demo.sh.
const folder = await mkdtemp(join(tmpdir(), 'quantix-demo-'));
const ending = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => ending.abort(signal));

try {
  await tell(folder, ending.signal);
} catch (error) {
  process.exitCode = 1;
  if (ending.signal.aborted) say(`\ninterrupted (${ending.signal.reason}); everything it started has ended`);
  else say(`\nthe demo failed: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  if (process.env.QX_DEMO_KEEP === '1') chapter(`kept: ${folder}`);
  else await rm(folder, { recursive: true, force: true });
}
