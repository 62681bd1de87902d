import { join } from 'node:path';
import { execa } from 'execa';
import { type BenchHost, startHost } from './host.ts';
import { memoryOf } from './processes.ts';
import { type Bench, MB, type Measured, type Row } from './row.ts';
import { benchSlot } from './slot.ts';
import type { ImageRequest } from './yard.ts';

const peak = (name: string, what: string, version: string, image: ImageRequest): Row => ({
  name,
  title: `peak memory of the agent, installing an image of ${what}`,
  unit: 'MB',
  goal: 200,
  measure: (bench) => measurePeak(bench, version, image),
});

export const memoryRows: readonly Row[] = [
  peak('memory-small', '100 MB', '3.0.0', { sizeBytes: 100 * MB, filledWith: 'noise' }),
  peak('memory-large', '3 GB', '4.0.0', { sizeBytes: 3000 * MB, filledWith: 'zeros' }),
];

async function measurePeak(bench: Bench, version: string, request: ImageRequest): Promise<Measured> {
  const yard = await bench.yard();
  await yard.publish(version, request);
  await using slot = await benchSlot(join(bench.folder, 'slot'), request.sizeBytes + MB);
  await using host = await startHost({
    root: join(bench.folder, 'host'),
    serverUrl: yard.url,
    keyring: yard.keyring,
    slotB: slot.path,
    settings: ['auto_check: false'],
  });
  const atStart = await memoryOf(host.agentPid, 'VmHWM');
  const processes = await whileApplying(host);
  const { bytes } = await memoryOf(host.agentPid, 'VmHWM');
  return {
    value: bytes / MB,
    detail: { slot: slot.kind, 'at start MB': Math.round(atStart.bytes / MB), processes },
  };
}

/** Answers with the most processes that the agent had at once. */
async function whileApplying(host: BenchHost): Promise<number> {
  const most = { processes: 0 };
  const look = async () => {
    const { processes } = await memoryOf(host.agentPid, 'VmRSS');
    most.processes = Math.max(most.processes, processes);
  };
  const timer = setInterval(() => void look(), 100);
  try {
    const { exitCode, all } = await execa('dist/qx-update', ['--root', host.root, 'apply'], {
      reject: false,
      all: true,
    });
    if (exitCode !== 4) throw new Error(`the install failed:\n${all}`);
    return most.processes;
  } finally {
    clearInterval(timer);
  }
}
