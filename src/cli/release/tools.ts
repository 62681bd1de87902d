import type { Bundles, BundleWriter } from '../../ports/bundle.ts';
import type { Ranges } from '../../ports/serving.ts';
import type { Upload } from '../../ports/upload.ts';
import type { Archive, Clock, Files, Http, ProcessResult } from '../../ports.ts';
import type { Stream } from '../render.ts';
import type { Program } from '../verb.ts';

export interface PackedArchive {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly unpackedSizeBytes: number;
  readonly kind: 'file' | 'directory';
  readonly changedModes: readonly { readonly path: string; readonly from: number; readonly to: number }[];
}

/** What the verbs of qx-release reach the outside with; `cli/release.ts` fills it in from the real machine. */
export interface ReleaseTools {
  readonly files: Files;
  readonly ranges: Ranges;
  readonly archive: Archive;
  readonly bundles: Bundles & BundleWriter;
  readonly clock: Clock;
  /** 0 when run from source. */
  readonly buildDateMs: number;
  readonly http: Http;
  readonly upload: Upload;
  pack(source: string, target: string): Promise<PackedArchive>;
  /** Absolute, links followed: what an operator names may be one. */
  followed(path: string): Promise<string>;
  /** False, and nothing done, where there is no program for it. @throws QxError IMAGE_UNBOOTABLE */
  unsquash(image: string, paths: readonly string[], toDirectory: string): Promise<boolean>;
  /** Which version an image says that it is; null when it does not say, or nobody can look. */
  imageVersion(image: string): Promise<string | null>;
  createFile(path: string, bytes: Uint8Array, mode: number): Promise<void>;
  inTemporaryDirectory<T>(work: (directory: string) => Promise<T>): Promise<T>;
  /** In the operator's own environment, where the login to a vault is. */
  runForOperator(
    argv: readonly [string, ...string[]],
    options: { input: Uint8Array; timeoutMs: number },
  ): Promise<ProcessResult>;
  newSeed(): Uint8Array;
  /** Null when run from source. */
  bakedKeyring(): Uint8Array | null;
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type ReleaseProgram = Program<ReleaseTools>;
