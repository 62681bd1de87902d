import type { Memory } from '../format/journal.ts';
import type { Channel, Manifest, Product } from '../format/manifest.ts';
import { compareVersions } from '../format/version.ts';
import { isDatedAhead } from './dates.ts';
import { type Refusal, refusal } from './plan.ts';

/**
 * Whether a manifest whose signatures are good may be installed on this host now. A signature says who made a release, not
 * that it is the right one: every release that was ever signed keeps a good signature.
 */

export interface TrustQuestion {
  readonly manifest: Manifest;
  readonly memory: Memory;
  readonly host: {
    readonly installedVersion: string;
    /** What this host says it is; empty when nobody configured it. */
    readonly compatible: readonly string[];
  };
  readonly keyringEpoch: number;
  readonly clock: {
    readonly nowMs: number;
    readonly isSynchronised: boolean;
    readonly buildDateMs: number;
  };
  readonly want: {
    readonly product: Product;
    readonly channel: Channel;
    /** Set when this version was asked for by name: the server must not answer with another one. */
    readonly version?: string;
  };
  readonly options: { readonly allowDowngrade: boolean; readonly isRoot: boolean };
}

type Check = (question: TrustQuestion) => Refusal | null;

/** The order is part of the answer: what is for somebody else is never judged by its age or version. */
const CHECKS: readonly Check[] = [checkAddress, checkSequence, checkExpiry, checkDate, checkVersion];

export function judgeRelease(question: TrustQuestion): Refusal | null {
  for (const check of CHECKS) {
    const refused = check(question);
    if (refused !== null) return refused;
  }
  return null;
}

function checkAddress({ manifest, want, host }: TrustQuestion): Refusal | null {
  const next = 'compare server_url and the channel of this host with what the server has published';
  if (manifest.product !== want.product) {
    return refusal('WRONG_PRODUCT', `this release is for ${manifest.product}, this host is ${want.product}`, next);
  }
  if (manifest.channel !== want.channel) {
    return refusal('WRONG_CHANNEL', `this release is for channel ${manifest.channel}, not ${want.channel}`, next);
  }
  if (want.version !== undefined && manifest.version !== want.version) {
    return refusal('NOT_FOUND', `the server answered with ${manifest.version}, asked for was ${want.version}`);
  }
  const kinds = manifest.compatible;
  if (kinds === undefined || kinds.some((kind) => host.compatible.includes(kind))) return null;
  const own = host.compatible.join(', ') || 'nothing in particular';
  return refusal(
    'NOT_COMPATIBLE',
    `this release is for ${kinds.join(', ')}; this host says it is ${own}`,
    'set updates.compatible in node.yaml to what this host is',
  );
}

const highWaterKey = ({ product, channel }: Manifest, epoch: number): string => `${product}/${channel}/${epoch}`;

const highestSeen = (memory: Memory, manifest: Manifest, epoch: number): number => {
  const key = highWaterKey(manifest, epoch);
  return Object.hasOwn(memory.high_water, key) ? (memory.high_water[key] ?? 0) : 0;
};

function checkSequence({ manifest, memory, keyringEpoch, want }: TrustQuestion): Refusal | null {
  const seen = highestSeen(memory, manifest, keyringEpoch);
  // A version that was asked for by name is no replay: a host that is too old for the newest release goes by one between
  // them. Whether it may go lower is for the version rules.
  if (seen === 0 || want.version !== undefined) return null;
  if (manifest.sequence === undefined) {
    return refusal(
      'SEQUENCE_MISSING',
      `this release has no sequence, though sequence ${seen} was seen before`,
      'qx-release refresh gives it one',
    );
  }
  // Equal is the release that was seen: a host asks every hour.
  if (manifest.sequence >= seen) return null;
  return refusal(
    'SEQUENCE_REPLAYED',
    `this release has sequence ${manifest.sequence}, though sequence ${seen} was seen before`,
    'the server offers something older than it did; ask whoever runs it, or sign it again with a higher sequence',
  );
}

/** A clock that was set back, or that woke in 1970, must not bring an expired release to life again. */
function trustedNowMs({ memory, clock }: TrustQuestion): number {
  const { committed } = memory;
  // A date that lay ahead when it got in is nobody's bound.
  const committedMs =
    committed === null || committed.dated_ahead === true ? Number.NaN : Date.parse(committed.release_date);
  return Math.max(clock.nowMs, clock.buildDateMs, Number.isNaN(committedMs) ? 0 : committedMs);
}

function checkExpiry(question: TrustQuestion): Refusal | null {
  const { expires_at } = question.manifest;
  if (expires_at === undefined || Date.parse(expires_at) > trustedNowMs(question)) return null;
  const { version, channel } = question.manifest;
  // Told of a channel whose newest release it is, this is the alarm that somebody keeps the host from newer ones.
  const detail =
    question.want.version === undefined
      ? `channel ${channel} is stale since ${expires_at}: until then its newest release, ${version}, could be installed`
      : `release ${version} could be installed until ${expires_at}`;
  return refusal('EXPIRED', detail, 'qx-release refresh signs it again with a later date');
}

/** Only a clock that somebody vouches for can say that a date lies ahead; a host that woke in 1970 would refuse everything. */
function checkDate({ manifest, clock }: TrustQuestion): Refusal | null {
  if (!clock.isSynchronised || !isDatedAhead(manifest, clock.nowMs)) return null;
  return refusal(
    'DATED_AHEAD',
    `this release is dated ${manifest.release_date}, more than a day ahead of this host`,
    'the clock of whoever made it was wrong: it has to be made again, with a new sequence',
  );
}

function checkVersion({ manifest, memory, host, options }: TrustQuestion): Refusal | null {
  const { version, min_version } = manifest;
  if (memory.floor !== null && compareVersions(version, memory.floor) < 0) {
    return refusal(
      'BELOW_FLOOR',
      `this release is ${version}; nothing below ${memory.floor} is ever installed here`,
      'publish a newer release; a floor is never lowered',
    );
  }
  if (min_version !== undefined && compareVersions(host.installedVersion, min_version) < 0) {
    return refusal(
      'TOO_OLD_TO_UPDATE',
      `release ${version} can be installed over ${min_version} or later; this host has ${host.installedVersion}`,
      `qx-update apply --version with a release between ${host.installedVersion} and ${version} first`,
    );
  }
  if (compareVersions(version, host.installedVersion) >= 0) return null;
  if (!options.allowDowngrade) {
    return refusal(
      'DOWNGRADE',
      `this release is ${version}, this host has ${host.installedVersion}`,
      'qx-update apply --allow-downgrade, as root',
    );
  }
  if (options.isRoot) return null;
  return refusal(
    'DOWNGRADE_NEEDS_ROOT',
    'only root may install an older release',
    'as root on the host itself: qx-update apply --allow-downgrade',
  );
}

/**
 * The memory after this release was seen. A sequence only ever rises, and only within its own channel and epoch. One that is
 * dated ahead is no bound: its sequence was made of the same wrong date, and would shut every other release out.
 */
export function remember(memory: Memory, manifest: Manifest, keyringEpoch: number, nowMs: number): Memory {
  const seen = highestSeen(memory, manifest, keyringEpoch);
  if (manifest.sequence === undefined || manifest.sequence <= seen || isDatedAhead(manifest, nowMs)) return memory;
  return {
    ...memory,
    high_water: { ...memory.high_water, [highWaterKey(manifest, keyringEpoch)]: manifest.sequence },
  };
}

/** What somebody says of a wrong date that got in: this product and channel begin with what the server offers next. */
export function forgetSeen(memory: Memory, { product, channel }: Pick<Manifest, 'product' | 'channel'>): Memory {
  const others = Object.entries(memory.high_water).filter(([key]) => !key.startsWith(`${product}/${channel}/`));
  const { committed } = memory;
  return {
    ...memory,
    high_water: Object.fromEntries(others),
    committed: committed === null ? null : { ...committed, dated_ahead: true },
  };
}
