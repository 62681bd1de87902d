import { type Static, Type } from 'typebox';
import { isCode } from '../../errors.ts';
import { readVersioned, writeDocument } from '../../format/document.ts';
import type { Outcome, Report } from '../../ports/offer.ts';
import type { Files, Log } from '../../ports.ts';
import { loadMembership } from '../fleet/membership.ts';

/** Outcomes that somebody still has to hear: a file each, in the order in which they came, until they were acknowledged. */

const FOLDER = '/quantix/limiquantix/reports';
const MAX_BYTES = 64 << 10;
/** A fleet that cannot be reached for months must not fill the disk. */
const MAX_KEPT = 100;

const KeptOutcome = Type.Object({
  format: Type.Literal(1),
  id: Type.String(),
  version: Type.String(),
  result: Type.Enum(['complete', 'rolled_back', 'failed']),
  at: Type.String(),
  code: Type.Optional(Type.String()),
  detail: Type.Optional(Type.String()),
});
export type KeptOutcome = Static<typeof KeptOutcome>;

/** Only hosts that asked somebody, or that belong to a fleet, have anybody to tell. */
export const keptReports = (files: Files, isAsked: () => Promise<boolean>): Report => ({
  outcome: async (outcome) => {
    if ((await loadMembership(files)) !== null || (await isAsked())) await keep(files, outcome);
  },
});

async function keep(files: Files, { release, ...outcome }: Outcome): Promise<void> {
  const names = await reportsIn(files);
  const last = Number((names.at(-1) ?? '0').replace('.json', ''));
  await files.makeDirectory(FOLDER, 0o700);
  const name = `${String(last + 1).padStart(10, '0')}.json`;
  await files.writeAtomic(
    `${FOLDER}/${name}`,
    writeDocument({ format: 1, version: release.version, ...outcome }),
    0o600,
  );
  for (const old of names.slice(0, Math.max(0, names.length + 1 - MAX_KEPT))) await files.remove(`${FOLDER}/${old}`);
}

/** What was put aside stays in the folder, and is no report. */
const reportsIn = async (files: Files): Promise<readonly string[]> =>
  (await files.list(FOLDER)).filter((name) => /^[0-9]{10}\.json$/.test(name));

/** Oldest first. `heard` takes it out. @throws QxError STATE_TOO_NEW */
export async function* unheard({ files, log }: Machine): AsyncGenerator<KeptOutcome & { heard(): Promise<void> }> {
  for (const name of await reportsIn(files)) {
    const path = `${FOLDER}/${name}`;
    const bytes = await files.read(path, MAX_BYTES);
    if (bytes === null) continue;
    const outcome = await readOrPutAside({ files, log }, path, bytes);
    if (outcome !== null) yield { ...outcome, heard: () => files.remove(path) };
  }
}

interface Machine {
  readonly files: Files;
  readonly log: Log;
}

/** One that is damaged keeps none behind it from being heard; the journal says how its update ended as well. */
async function readOrPutAside({ files, log }: Machine, path: string, bytes: Uint8Array): Promise<KeptOutcome | null> {
  try {
    return readVersioned(bytes, KeptOutcome, path, 'nobody then hears how that update ended');
  } catch (error) {
    if (!isCode(error, 'STATE_INVALID')) throw error;
    log.warn('report_set_aside', { detail: error.message, kept_as: `${path}.bad` });
    await files.rename(path, `${path}.bad`);
    return null;
  }
}
