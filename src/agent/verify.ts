import { hashContents, notedContents } from '../delivery/components/contents.ts';
import { readInstalled } from '../delivery/components/versions.ts';
import { isCode } from '../errors.ts';
import type { VerifyResponse } from '../format/agent-documents.ts';
import { eventsInWords } from '../format/audit.ts';
import { SLOTS, type Slot } from '../format/grubenv.ts';
import { BEGIN_ANEW, readAudit } from './audit.ts';
import { type Host, PATHS } from './host.ts';
import { IMAGE_IN_SLOT } from './slot/filesystem.ts';
import { loadMemory } from './store.ts';

/** Reads back what was installed, past every cache, and holds it against what was signed and written. Changes nothing. */

type Verified = VerifyResponse['checked'][number];

export async function verify(host: Host, signal?: AbortSignal): Promise<VerifyResponse> {
  const checked: Verified[] = [];
  for (const slot of SLOTS) checked.push({ what: `slot ${slot}`, ...(await verifySlot(host, slot, signal)) });
  const installed = [...(await readInstalled(host.files, PATHS.versions))].sort();
  for (const [name, version] of installed) {
    checked.push({ what: name, ...(await verifyComponent(host, name, version, signal)) });
  }
  checked.push({ what: 'audit log', ...(await verifyAudit(host)) });
  return { ok: checked.every(({ result }) => result !== 'differs'), checked };
}

type Verdict = Omit<Verified, 'what'>;

export async function verifySlot(host: Host, slot: Slot, signal: AbortSignal | undefined): Promise<Verdict> {
  const content = (await loadMemory(host)).slots[slot];
  // The first image of a host was put there by its installer, and one that is being written is not there yet.
  if (content === null) return { result: 'unknown', detail: 'nothing is known of what was written to it' };
  const { version, sha256, size_bytes, layout } = content;
  if (size_bytes === undefined || layout === undefined) {
    return { result: 'unknown', detail: `version ${version} was written by an agent that did not note its size` };
  }
  const found = await hashSlot(host, slot, layout, size_bytes, signal);
  return found === sha256
    ? { result: 'ok', detail: `holds version ${version}, as it was signed` }
    : {
        result: 'differs',
        detail: `does not hold version ${version} any more, which was written ${content.written_at}`,
      };
}

async function hashSlot(
  { disk }: Host,
  slot: Slot,
  layout: 'raw' | 'filesystem',
  sizeBytes: number,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  if (layout === 'raw') return disk.hashRange(slot, 0, sizeBytes, signal === undefined ? {} : { signal });
  try {
    return await disk.hashFileInSlot(slot, IMAGE_IN_SLOT, signal);
  } catch (error) {
    if (isCode(error, 'READBACK_MISMATCH')) return null;
    throw error;
  }
}

async function verifyComponent(
  { files }: Host,
  name: string,
  version: string,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  const noted = await notedContents(files, PATHS.versions, name, version);
  if (noted === null)
    return { result: 'unknown', detail: `nothing was noted of version ${version} when it was installed` };
  const found = await hashContents(files, noted.path, signal);
  if (found === noted.sha256) return { result: 'ok', detail: `${noted.path} is version ${version}, as it was signed` };
  const change = found === null ? 'is gone' : `is not version ${version} any more, as it was signed`;
  const next = `rm ${PATHS.versions}/${name}.version, then qx-update apply --component ${name} installs it again`;
  return { result: 'differs', detail: `${noted.path} ${change}; ${next}` };
}

async function verifyAudit({ files }: Host): Promise<Verdict> {
  const { ok, events, broken } = (await readAudit(files)).verdict;
  if (ok) return { result: 'ok', detail: `${eventsInWords(events)} in an unbroken chain` };
  return { result: 'differs', detail: `${broken?.segment} line ${broken?.line}: ${broken?.detail}; ${BEGIN_ANEW}` };
}
