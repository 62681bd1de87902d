import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { startHost } from './host.ts';
import { compare, detailOf, type Sample, timed } from './measure.ts';
import { cpuMsOf } from './processes.ts';
import { type Bench, MB, median, type Row } from './row.ts';
import { type BenchSlot, benchSlot } from './slot.ts';
import type { PublishedImage, Yard } from './yard.ts';

const PAIRS = 5;
/** How `qx-update` says that a reboot is required. */
const REBOOT_REQUIRED = 4;

/** From the first byte asked for to the image on the slot, on disk and read back, against a shell that only writes it. */
export const installRow: Row = {
  name: 'install',
  title:
    'a whole image over loopback HTTP to a loop device, fsynced and read back, against `curl`, `tee`, `openssl dgst` and `dd oflag=direct` in a pipe, wall',
  unit: 'x',
  goal: 1,
  measure: async (bench) => {
    const yard = await bench.yard();
    const image = await yard.publish(`2.${bench.imageMb}.0`, { sizeBytes: bench.imageMb * MB, filledWith: 'noise' });
    await using slot = await benchSlot(join(bench.folder, 'slot'), Math.ceil(bench.imageMb + 1) * MB);
    const compared = await compare(
      () => install(bench, yard, slot),
      () => yardstick(bench, image, slot),
      bench.pairs ?? PAIRS,
    );
    const steps = await repeated(() => sameSteps(bench, image, slot), compared.pairs);
    return {
      value: compared.wallRatio,
      detail: {
        image: `${bench.imageMb} MB`,
        slot: slot.kind,
        ...detailOf(compared),
        'a shell that also stores, checks and reads back ms': Math.round(steps),
      },
    };
  },
};

async function repeated(run: () => Promise<Sample>, times: number): Promise<number> {
  const wallMs: number[] = [];
  for (let i = 0; i < times; i++) wallMs.push((await run()).wallMs);
  return median(wallMs);
}

/** What one run left in the page cache is no burden to the next. */
const settle = () => execa('sync');

async function install({ folder }: Bench, yard: Yard, slot: BenchSlot): Promise<Sample> {
  await using host = await startHost({
    root: join(folder, 'host'),
    serverUrl: yard.url,
    keyring: yard.keyring,
    slotB: slot.path,
    settings: ['auto_check: false'],
  });
  await settle();
  const beforeMs = await cpuMsOf(host.agentPid);
  const apply = `dist/qx-update --root "$1" apply >/dev/null || [ $? -eq ${REBOOT_REQUIRED} ]`;
  const { cpuMs, wallMs } = await timed(apply, host.root);
  return { cpuMs: cpuMs + (await cpuMsOf(host.agentPid)) - beforeMs, wallMs };
}

/** A fifo instead of bash's `>( )`, which nobody waits for: the hash belongs to the work. */
const SHELL = `
  openssl dgst -sha256 <"$1" & hash=$!
  curl -sSf "$2" | tee "$1" | dd of="$3" bs=1M iflag=fullblock oflag=direct conv=nocreat,notrunc,fsync status=none
  wait $hash`;

/** All that an install does with the bytes: what is left of ours beyond it is planning, records and the boot environment. */
const SAME_STEPS = `
  set -e -o pipefail
  curl -sSf "$1" | tee "$2" | openssl dgst -sha256
  openssl dgst -sha256 <"$3" & hash=$!
  tee <"$2" "$3" | dd of="$4" bs=1M iflag=fullblock oflag=direct conv=nocreat,notrunc,fsync status=none
  wait $hash
  head -c "$5" "$4" | openssl dgst -sha256
  rm "$2"`;

async function sameSteps({ folder }: Bench, image: PublishedImage, slot: BenchSlot): Promise<Sample> {
  await settle();
  const [part, fifo] = [join(folder, 'part'), join(folder, 'fifo')];
  const { stdout, ...sample } = await timed(SAME_STEPS, image.url, part, fifo, slot.path, String(image.sizeBytes));
  if (stdout.split(image.sha256).length !== 4) throw new Error(`other bytes than the image: ${stdout}`);
  return sample;
}

async function yardstick({ folder }: Bench, image: PublishedImage, slot: BenchSlot): Promise<Sample> {
  const fifo = join(folder, 'fifo');
  await rm(fifo, { force: true });
  await execa('mkfifo', [fifo]);
  await settle();
  const { stdout, ...sample } = await timed(SHELL, fifo, image.url, slot.path);
  if (!stdout.includes(image.sha256)) throw new Error(`the yardstick moved other bytes than the image: ${stdout}`);
  return sample;
}
