import { compareHardware, isSameMachine, type Mark, refreshed } from '../../core/same-machine.ts';
import { asQxError, QxError } from '../../errors.ts';
import { COPIED_IDENTITY_PATH, type Hardware, type HostIdentity } from '../../format/host-identity.ts';
import type { Membership } from '../../format/membership.ts';
import type { Clock, Files } from '../../ports.ts';
import { readHardware } from '../hardware.ts';
import type { Host } from '../host.ts';
import { idFor, loadIdentity, readIdentity, saveIdentity } from '../identity.ts';
import { forgetCopied, putAside, takeUpAgain } from './copied.ts';
import { isOwn, loadMembership, ownMembership, saveMembership } from './membership.ts';

/** The identity of a host and the machine that it was made on: compared at each start, before anything is said in its name. */

type Settling = Pick<Host, 'files' | 'audit' | 'log'> & { readonly clock: Pick<Clock, 'sleep'> };

const LOCK = '/run/quantix/identity.lock';
const LOCK_TRIES = 100;
const LOCK_EVERY_MS = 50;

/** A host from before gets its id now. Whatever cannot be settled is told by whoever needs the identity. */
export async function settleIdentity(host: Settling): Promise<void> {
  try {
    await alone(host, () => settle(host));
  } catch (error) {
    const { code, message, next } = asQxError(error);
    host.log.warn(code === 'MACHINE_DIFFERS' ? 'identity_refused' : 'identity_not_settled', {
      code,
      detail: message,
      ...(next === undefined ? {} : { next }),
    });
  }
}

async function settle(host: Settling): Promise<void> {
  const { files } = host;
  const known = await loadIdentity(files);
  const hardware = await readHardware(files);
  if (!isSameMachine(known.hardware, hardware)) return beAnother(host, known, hardware);
  const now = refreshed(known.hardware, hardware);
  if (JSON.stringify(now) !== JSON.stringify(known.hardware)) await saveIdentity(files, { ...known, hardware: now });
  const membership = await loadMembership(files);
  if (membership === null) return;
  if (membership.host_id === undefined && (await isOwn(files, membership))) {
    await saveMembership(files, { ...membership, host_id: known.id });
  }
  await ownMembership(files);
}

/** Two hosts never have one id: the one that finds out makes another. */
async function beAnother(host: Settling, known: HostIdentity, hardware: Hardware): Promise<void> {
  const { files, audit, log } = host;
  await putAside(files);
  await loadIdentity(files);
  const differs = Object.entries(compareHardware(known.hardware, hardware)).filter(([, is]) => is === 'differs');
  const detail = `this disk was in another machine: ${differs.map(([mark]) => WORDS[mark as Mark]).join(', ')} differ`;
  log.warn('identity_copied', { detail });
  await audit.record({ event: 'identity_copied', code: 'MACHINE_DIFFERS', detail });
  await ownMembership(files);
}

const WORDS: Readonly<Record<Mark, string>> = {
  uuid: 'system UUID',
  board: 'board',
  cards: 'network cards',
  disks: 'disks',
};

/** Agent and commands start at the same time. */
async function alone<T>({ files, clock }: Settling, work: () => Promise<T>): Promise<T> {
  for (let i = 0; i < LOCK_TRIES; i += 1) {
    const unlock = await files.lock(LOCK);
    if (unlock !== null) return work().finally(unlock);
    await clock.sleep(LOCK_EVERY_MS);
  }
  throw new QxError('BUSY', `another process holds ${LOCK}`, {
    next: 'repeat it; if that does not help, the file names the process that hangs',
  });
}

/**
 * A person says that this host is the one that the identity was made on, other hardware or not. @throws QxError MACHINE_IS_SAME
 * when nothing says otherwise
 */
export async function keepIdentity(host: Settling, reason: string, actor: string): Promise<HostIdentity> {
  return alone(host, async () => {
    const { files, audit } = host;
    const membership = await loadMembership(files);
    const copied = await readIdentity(files, COPIED_IDENTITY_PATH);
    const isMember = membership === null || (await isOwn(files, membership));
    if (isMember && copied === null) {
      throw new QxError('MACHINE_IS_SAME', 'nothing says that this identity was made on another machine', {
        next: 'qx-update identity show',
      });
    }
    const own = await loadIdentity(files);
    const kept = { ...own, id: membership?.host_id ?? copied?.id ?? own.id, hardware: await readHardware(files) };
    await saveIdentity(files, kept);
    if (membership !== null) await saveMembership(files, { ...membership, host_id: kept.id });
    await takeUpAgain(files);
    await audit.record({ event: 'identity_kept', actor, detail: reason });
    await forgetCopied(files);
    return kept;
  });
}

export interface ShownIdentity {
  /** What others know this host by; its id itself stays here. */
  readonly fleetlock_id: string;
  readonly boot: string;
  /** Null: the host stands alone. */
  readonly fleet: Pick<Membership, 'node_id' | 'server'> | null;
  readonly hardware: readonly { readonly mark: string; readonly made_with: string; readonly now: string }[];
  readonly refused: QxError | null;
}

/** @throws QxError STATE_INVALID | STATE_TOO_NEW */
export async function showIdentity({ files, boot }: Pick<Host, 'files' | 'boot'>): Promise<ShownIdentity> {
  const { id, hardware } = await loadIdentity(files);
  const made = (await readIdentity(files, COPIED_IDENTITY_PATH))?.hardware ?? hardware;
  const now = await readHardware(files);
  const membership = await loadMembership(files);
  return {
    fleetlock_id: idFor('fleetlock', id),
    boot: idFor('boot', await boot.bootId()),
    fleet: membership && { node_id: membership.node_id, server: membership.server },
    hardware: (Object.keys(WORDS) as Mark[]).map((mark) => ({
      mark: WORDS[mark],
      made_with: inWords(made[mark]),
      now: inWords(now[mark]),
    })),
    refused: await identityFault(files),
  };
}

const inWords = (value: string | null | readonly string[]): string =>
  (typeof value === 'string' ? value : (value ?? []).join(', ')) || 'not known';

/** Why a member may not speak for itself; null when it may, or stands alone. */
export const identityFault = (files: Files): Promise<QxError | null> =>
  ownMembership(files).then(
    () => null,
    (error: unknown) => asQxError(error),
  );
