import { parseArgs } from 'node:util';
import { execa } from 'execa';

/** Power cuts for as long as one likes; root. What it does is test/vm/powercut.long.ts. */

const USAGE = `usage: npm run powercut -- [--minutes N] [--kills N] [--seed N]
  --minutes N  decide crash states of a recorded update for so long with the real GRUB, and start one of 50 in QEMU (10)
  --kills N    kill QEMU so often at a random moment of an update, and start what that left each time (0); one update is
               killed some forty times, and what that leaves takes up to 15 GB in dist/powercut meanwhile
  --seed N     other states and moments; the same seed makes the same ones (1)
Goes on where the last run with this seed stopped, as long as executable and grub.cfg are the same: dist/powercut/tally.json
has the sum. The recording, once for --minutes, takes five of them.
`;

/** Null: only its usage is asked for. */
function settings(): Record<string, string> | null {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean', short: 'h' },
      minutes: { type: 'string', default: '10' },
      kills: { type: 'string', default: '0' },
      seed: { type: 'string', default: '1' },
    },
  });
  if (values.help) return null;
  const all = { QX_MINUTES: values.minutes, QX_KILLS: values.kills, QX_SEED: values.seed };
  for (const [name, value] of Object.entries(all)) {
    if (!/^\d{1,6}$/.test(value)) throw new Error(`${name.slice(3).toLowerCase()} has to be a whole number: ${value}`);
  }
  return all;
}

try {
  const env = settings();
  if (env === null) process.stdout.write(USAGE);
  else process.exitCode = await run(env);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n${USAGE}`);
  process.exitCode = 2;
}

async function run(env: Record<string, string>): Promise<number> {
  const args = ['run', '--config', 'vitest.vm.config.ts', 'test/vm/powercut.long.ts'];
  const { exitCode } = await execa('vitest', args, { env, preferLocal: true, stdio: 'inherit', reject: false });
  return exitCode ?? 1;
}
