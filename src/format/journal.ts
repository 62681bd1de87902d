import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';
import { ChannelName, ProductName } from './manifest.ts';
import { NAME_PATTERN, SHA256_PATTERN } from './schema.ts';

/**
 * `/quantix/ab-update-state.json`: the update that is under way, or the last one. Its first six fields are those which
 * Quantix-OS always had there; troubleshooting guides read them. Unknown fields are kept: a newer agent may have written them.
 */

/** What each phase means stands with the table that connects them, in `core/update.ts`. */
export const PHASES = [
  'idle',
  'fetching',
  'writing',
  'applying',
  'armed',
  'trial',
  'undoing',
  'rollingBack',
  'complete',
  'failed',
  'rolledBack',
] as const;
export type Phase = (typeof PHASES)[number];

const SlotName = Type.Enum(['A', 'B']);
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

/**
 * One component of the transaction. `swapping` is saved before the installed files are touched, with the backup already on
 * disk; undoing is safe in every state, and twice.
 */
export const ComponentEntry = Type.Object({
  name: Type.String({ pattern: NAME_PATTERN }),
  version: Type.String(),
  previous_version: nullable(Type.String()),
  artifact: Type.String(),
  install_path: Type.String(),
  kind: nullable(Type.Enum(['file', 'directory'])),
  permissions: Type.String(),
  restart_service: nullable(Type.String()),
  unpacked_size_bytes: nullable(Type.Integer()),
  /** Where the replaced file, or the tree that install_path pointed at, is kept; null when there was none. */
  backup: nullable(Type.String()),
  /** What it was when it was made, as one hash: this journal and the backups lie on different partitions. */
  backup_sha256: Type.Optional(Type.String({ pattern: SHA256_PATTERN })),
  /** False when the backup goes once the update is settled. */
  keep_backup: Type.Optional(Type.Boolean()),
  /** The unpacked tree of a directory, which install_path points at once it is swapped. */
  tree: Type.Optional(Type.String()),
  /** `final`: its backup is gone, there is no way back. */
  state: Type.Enum(['pending', 'swapping', 'swapped', 'done', 'undone', 'final']),
});
export type ComponentEntry = Static<typeof ComponentEntry>;

const JournalImage = Type.Object({
  artifact: Type.String(),
  sha256: Type.String({ pattern: SHA256_PATTERN }),
  size_bytes: Type.Integer({ minimum: 1 }),
  requires_reboot: Type.Boolean(),
});

/** Whole milliseconds, as far as they are known. */
export const Timings = Type.Object({
  download_ms: Type.Optional(Type.Integer({ minimum: 0 })),
  apply_ms: Type.Optional(Type.Integer({ minimum: 0, description: 'writing the slot and swapping the components' })),
  rebooting_at: Type.Optional(Type.String({ description: 'when the agent rebooted into it' })),
  reboot_ms: Type.Optional(Type.Integer({ minimum: 0, description: 'from the reboot until the slot was marked good' })),
});

export const Journal = Type.Object({
  previous_slot: nullable(SlotName),
  target_slot: nullable(SlotName),
  target_version: Type.String(),
  boot_attempts: Type.Integer({ minimum: 0 }),
  max_attempts: Type.Integer({ minimum: 1 }),
  pending: Type.Boolean({ description: 'true from arming until the trial boot is decided' }),

  format: Type.Literal(1),
  id: Type.String({ pattern: '^[a-z0-9]{8,32}$', description: 'names the update and its trial boot' }),
  phase: Type.Enum([...PHASES]),
  product: ProductName,
  channel: ChannelName,
  previous_version: Type.String(),
  release_date: Type.String(),
  release_digest: Type.String({ pattern: SHA256_PATTERN, description: 'the release digest of format/envelope.ts' }),
  min_rollback_version: nullable(Type.String()),
  armed_in: Type.Optional(Type.String({ description: 'the boot in which the trial was armed' })),
  reboot_wanted: Type.Optional(Type.Boolean({ description: 'somebody asked for the reboot into it' })),
  is_whole: Type.Boolean({ description: 'false when only some components of the release were asked for' }),
  image: nullable(JournalImage),
  components: Type.Array(ComponentEntry),
  started_at: Type.String(),
  updated_at: Type.String(),
  error: nullable(Type.Object({ code: Type.String(), detail: Type.String() })),
  dismissed: Type.Optional(Type.Boolean({ description: 'the operator has seen how it ended' })),
  timings: Type.Optional(Timings),
});
export type Journal = Static<typeof Journal>;

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readJournal = (bytes: Uint8Array): Journal =>
  readVersioned(bytes, Journal, '/quantix/ab-update-state.json', 'the host then stays as it is now');

/**
 * `/quantix/limiquantix/state.json`: what the host remembers between updates, so that nothing older, and nothing that failed,
 * comes back by itself.
 */
export const Memory = Type.Object({
  format: Type.Literal(1),
  /** Highest sequence seen, by "product/channel/keyring epoch". */
  high_water: Type.Record(Type.String(), Type.Integer({ minimum: 0 })),
  /** Nothing older than this is installed or rolled back to. Rises only when a release was marked good. */
  floor: nullable(Type.String()),
  /** The release that was last marked good. */
  committed: nullable(committedRelease()),
  /** The one before it, which the host has again when the last one is taken back. */
  committed_before: Type.Optional(nullable(committedRelease())),
  /** Releases that failed here and are not tried again by themselves. */
  bad: Type.Array(
    Type.Object({
      version: Type.String(),
      release_digest: Type.String(),
      at: Type.String(),
      reason: Type.String(),
      /** `ROLLED_BACK`: by somebody who wanted it so. Entries of before do not say. */
      code: Type.Optional(Type.String()),
      /** The host was what failed: from here on it is tried again by itself. */
      until: Type.Optional(Type.String()),
      /** How often that was so, in a row, and by which update the last time. */
      times: Type.Optional(Type.Integer({ minimum: 1 })),
      id: Type.Optional(Type.String()),
    }),
  ),
  /** What was verified onto each slot; null when unknown or being written. */
  slots: Type.Object({ A: nullable(slotContent()), B: nullable(slotContent()) }),
  /** The operator wants nothing installed for now. */
  held: Type.Optional(nullable(Type.Object({ at: Type.String(), reason: Type.String() }))),
});
export type Memory = Static<typeof Memory>;

function committedRelease() {
  return Type.Object({
    version: Type.String(),
    release_date: Type.String(),
    release_digest: Type.String(),
    /** Its date lay ahead of this host's clock when it was taken: nothing is measured by it. */
    dated_ahead: Type.Optional(Type.Boolean()),
  });
}

function slotContent() {
  return Type.Object({
    version: Type.String(),
    sha256: Type.String(),
    written_at: Type.String(),
    /** Of the image, and how it lies on the slot: what it takes to read it back. */
    size_bytes: Type.Optional(Type.Integer({ minimum: 1 })),
    layout: Type.Optional(Type.Enum(['raw', 'filesystem'])),
    /** Which version the image says that it is; null when it does not say. */
    own_version: Type.Optional(nullable(Type.String())),
    /** SHA-256 of its first block, where it lies bare on the slot: by it an overwritten one is known at a glance. */
    head_sha256: Type.Optional(Type.String({ pattern: SHA256_PATTERN })),
  });
}

export const EMPTY_MEMORY: Memory = {
  format: 1,
  high_water: {},
  floor: null,
  committed: null,
  bad: [],
  slots: { A: null, B: null },
};

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readMemory = (bytes: Uint8Array): Memory =>
  // Never by itself: whoever can spoil this file would lift the floor and let every old release in.
  readVersioned(
    bytes,
    Memory,
    '/quantix/limiquantix/state.json',
    'the host then forgets which releases failed and what lies on its slots, and keeps a floor',
    'qx-update reset --remembered --reason TEXT',
  );
