import { randomBytes } from 'node:crypto';
import type { Http } from '../ports.ts';
import { packArchive } from '../system/archive/pack.ts';
import { hostArchive } from '../system/archive.ts';
import { bundleWriter } from '../system/bundle/write.ts';
import { operatorBundles } from '../system/bundle.ts';
import { hostClock } from '../system/clock.ts';
import { hostFiles } from '../system/files.ts';
import { undiciHttp } from '../system/http.ts';
import { bakedKeyring } from '../system/keyring.ts';
import { createFile, followed, inTemporaryDirectory } from '../system/operator-files.ts';
import { imageVersion, unsquashForOperator } from '../system/operator-image.ts';
import { runForOperator } from '../system/operator-process.ts';
import { hostProcess } from '../system/process.ts';
import { hostRanges } from '../system/ranges.ts';
import { undiciUpload } from '../system/upload.ts';
import { runRelease } from './release/program.ts';
import type { ReleaseTools } from './release/tools.ts';
import { buildDateMs } from './version.ts';

/** qx-release on the real machine. */
export async function main(args: readonly string[]): Promise<number> {
  const http = undiciHttp();
  try {
    return await runRelease(args, machineTools(http));
  } finally {
    // A kept-alive connection would otherwise hold the program up for seconds after it is done.
    await http.close();
  }
}

export const machineTools = (http: Http): ReleaseTools => ({
  files: hostFiles(''),
  ranges: hostRanges(''),
  archive: hostArchive(''),
  bundles: { ...operatorBundles(), ...bundleWriter() },
  clock: hostClock(hostProcess()),
  buildDateMs: buildDateMs(),
  http,
  upload: undiciUpload(),
  pack: packArchive,
  followed,
  unsquash: unsquashForOperator,
  imageVersion,
  createFile,
  inTemporaryDirectory,
  runForOperator,
  newSeed: () => randomBytes(32),
  bakedKeyring,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
});
