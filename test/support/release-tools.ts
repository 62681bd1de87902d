import { randomBytes } from 'node:crypto';
import { runRelease } from '../../src/cli/release/program.ts';
import type { ReleaseTools } from '../../src/cli/release/tools.ts';
import { exitCode, explain } from '../../src/errors.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import { hostArchive } from '../../src/system/archive.ts';
import { hostClock } from '../../src/system/clock.ts';
import { hostFiles } from '../../src/system/files.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { createFile, followed, inTemporaryDirectory } from '../../src/system/operator-files.ts';
import { unsquashForOperator } from '../../src/system/operator-image.ts';
import { runForOperator } from '../../src/system/operator-process.ts';
import { hostProcess } from '../../src/system/process.ts';
import { hostRanges } from '../../src/system/ranges.ts';
import { undiciUpload } from '../../src/system/upload.ts';

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs qx-release on the real machine within this process, and ends as main does. */
export async function release(args: readonly string[], changes: Partial<ReleaseTools> = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const http = undiciHttp();
  const tools: ReleaseTools = {
    files: hostFiles(''),
    ranges: hostRanges(''),
    archive: hostArchive(''),
    clock: hostClock(hostProcess()),
    http,
    upload: undiciUpload(),
    pack: packArchive,
    followed,
    unsquash: unsquashForOperator,
    createFile,
    inTemporaryDirectory,
    runForOperator,
    newSeed: () => randomBytes(32),
    bakedKeyring: () => null,
    stdout: { write: (text) => out.push(text) },
    stderr: { write: (text) => err.push(text) },
    env: {},
    ...changes,
  };
  const ended = (code: number): Ran => ({ exitCode: code, stdout: out.join(''), stderr: err.join('') });
  try {
    return ended(await runRelease(args, tools));
  } catch (error) {
    err.push(`${explain(error)}\n`);
    return ended(exitCode(error));
  } finally {
    await http.close();
  }
}

/** The one document that a run with --json prints. */
export function document({ stdout }: Ran): Record<string, unknown> & { schema: string } {
  return JSON.parse(stdout);
}
