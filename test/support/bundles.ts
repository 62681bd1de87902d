import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { ENVELOPE_NAME } from '../../src/format/envelope.ts';
import { entryHeader, paddingBytes } from '../../src/system/bundle/layout.ts';
import type { Release } from './agent-releases.ts';
import { END } from './tar-maker.ts';

/** Offline bundles entry by entry, so that a test can leave one out, add one, or change one. */

export const entry = (name: string, content: Uint8Array | string, header?: Buffer): Buffer => {
  const bytes = Buffer.from(content);
  return Buffer.concat([header ?? entryHeader(name, bytes.length), bytes, Buffer.alloc(paddingBytes(bytes.length))]);
};

export const envelopeEntry = ({ envelope }: Pick<Release, 'envelope'>): Buffer => entry(ENVELOPE_NAME, envelope);

export const artifactEntries = ({ artifacts }: Pick<Release, 'artifacts'>): Buffer[] =>
  [...artifacts].map(([name, bytes]) => entry(name, bytes));

export const bundleBytes = (release: Pick<Release, 'envelope' | 'artifacts'>): Buffer =>
  Buffer.concat([envelopeEntry(release), ...artifactEntries(release), END]);

/** A stick in the test's machine: what is put on it, by its path. */
export function stick() {
  const folder = mkdtempSync(join(tmpdir(), 'quantix-stick-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const at = (name: string): string => join(folder, name);
  return {
    at,
    put: async (bytes: Uint8Array, name = 'release.qxb'): Promise<string> => {
      await writeFile(at(name), bytes);
      return at(name);
    },
  };
}
