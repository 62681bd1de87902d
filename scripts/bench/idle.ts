import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { agentApi } from './agent-api.ts';
import { startHost } from './host.ts';
import { memoryOf } from './processes.ts';
import { MB, type Row } from './row.ts';

/** One an hour. */
const CHECKS = 7 * 24;
const POLLS_PER_CHECK = 20;
/** Nobody asks anything; the agent looks after its own memory every minute. */
const SETTLED_AFTER_MS = 130_000;

export const idle: Row = {
  name: 'idle',
  title: 'memory of the agent after a week of checks, which are asked for one after another',
  unit: 'MB',
  goal: 90,
  measure: async ({ folder, yard: open }) => {
    const yard = await open();
    await yard.publish('5.0.0', { sizeBytes: 3 * MB, filledWith: 'noise' });
    await using host = await startHost({
      root: join(folder, 'host'),
      serverUrl: yard.url,
      keyring: yard.keyring,
      slotB: '/dev/null',
      executable: await asAfterBoot(folder),
      settings: ['auto_check: false'],
    });
    const atStart = await memoryOf(host.agentPid, 'VmRSS');
    await using api = agentApi(host);
    for (let check = 0; check < CHECKS; check++) {
      await api.get('/api/v1/updates/check');
      for (let poll = 0; poll < POLLS_PER_CHECK; poll++) await api.get('/api/v1/updates/status');
    }
    const atEnd = await memoryOf(host.agentPid, 'VmRSS');
    await sleep(SETTLED_AFTER_MS);
    const { bytes, processes } = await memoryOf(host.agentPid, 'VmRSS');
    const peak = await memoryOf(host.agentPid, 'VmHWM');
    return {
      value: bytes / MB,
      detail: {
        'at start MB': Math.round(atStart.bytes / MB),
        'after the last check MB': Math.round(atEnd.bytes / MB),
        'peak MB': Math.round(peak.bytes / MB),
        processes,
        checks: CHECKS,
      },
    };
  },
};

/**
 * A copy of the agent that nothing has read yet. Of a file that was just written, or that other programs run from, the kernel maps
 * far more at each fault, and counts it.
 */
async function asAfterBoot(folder: string): Promise<string> {
  const executable = join(folder, 'qx-node');
  await copyFile('dist/qx-node', executable);
  await execa('dd', [
    `of=${executable}`,
    'if=/dev/null',
    'oflag=nocache',
    'conv=notrunc,fdatasync',
    'count=0',
    'status=none',
  ]);
  return executable;
}
