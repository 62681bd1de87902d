import { type Static, Type } from 'typebox';
import { HistoryEntry } from './history.ts';
import { ChannelName } from './manifest.ts';
import { INSTANT_PATTERN, NAME_PATTERN } from './schema.ts';
import { VERSION_MAX_LENGTH, VERSION_PATTERN } from './version.ts';

/** What the REST interface of the host agent takes and answers. Host page and control plane read these fields. */

const refusalInfo = { code: Type.String(), detail: Type.String(), next: Type.Optional(Type.String()) };

const optionalVersion = (description: string) => Type.Optional(Type.String({ description }));

const ComponentInfo = Type.Object({
  name: Type.String(),
  currentVersion: optionalVersion('absent: not installed'),
  newVersion: Type.String(),
  sizeBytes: Type.Integer({ minimum: 0 }),
});
export type ComponentInfo = Static<typeof ComponentInfo>;

export const UpdateCheckResponse = Type.Object({
  available: Type.Boolean(),
  currentVersion: Type.String(),
  availableVersion: optionalVersion('the newest release that this host may install'),
  channel: ChannelName,
  components: Type.Array(ComponentInfo, { description: 'only what would be replaced' }),
  fullImageAvailable: Type.Boolean(),
  totalDownloadSize: Type.Integer({ minimum: 0, description: 'bytes' }),
  replaces: optionalVersion('the release that waits for its reboot and would be taken back for this one'),
  waitsForReboot: optionalVersion(
    'the release that is installed and waits for its reboot, where nothing newer is offered',
  ),
  releaseNotes: Type.Optional(Type.String()),
});
export type UpdateCheckResponse = Static<typeof UpdateCheckResponse>;

export const InstalledVersions = Type.Object({
  osVersion: Type.String(),
  qxNode: optionalVersion('of the agent'),
  qxConsole: optionalVersion('of the console'),
  hostUi: optionalVersion('of the host page'),
});
export type InstalledVersions = Static<typeof InstalledVersions>;

const UPDATE_STATES = [
  'idle',
  'checking',
  'up_to_date',
  'available',
  'downloading',
  'applying',
  'complete',
  'error',
  'reboot_required',
] as const;

export const UpdateStatus = Type.Object({
  status: Type.Enum([...UPDATE_STATES]),
  message: Type.Optional(Type.String()),
  progress: Type.Optional(Type.Integer({ minimum: 0, maximum: 100, description: 'percent' })),
  held: Type.Optional(Type.String({ description: 'updates are on hold; why' })),
  waitsFor: Type.Optional(Type.String({ description: 'why the reboot was not granted when it was last asked for' })),
  certificate: Type.Optional(
    Type.Object(
      {
        expiresAt: Type.Optional(Type.String({ description: 'within two weeks, or it is over' })),
        problem: Type.Optional(Type.String({ description: 'why newer files are not taken; the one before goes on' })),
      },
      { description: 'of the listener on the network, where somebody has to do something about it' },
    ),
  ),
  closed: Type.Optional(
    Type.Array(Type.Object({ door: Type.Enum(['api_token', 'client_ca', 'network']), ...refusalInfo }), {
      description: 'ways to this host that are closed, because what they need cannot be used; all else goes on',
    }),
  ),
  identity: Type.Optional(
    Type.Object(refusalInfo, {
      description: 'why this member of a fleet may not speak for itself: it asks nobody for anything',
    }),
  ),
});
export type UpdateStatus = Static<typeof UpdateStatus>;

const release = {
  version: Type.Optional(
    Type.String({
      pattern: VERSION_PATTERN,
      maxLength: VERSION_MAX_LENGTH,
      description: 'refused unless this is the release that would be installed',
    }),
  ),
  components: Type.Optional(
    Type.Array(Type.String({ pattern: NAME_PATTERN }), { minItems: 1, maxItems: 256, description: 'only these' }),
  ),
};

const installation = {
  ...release,
  allow_downgrade: Type.Optional(
    Type.Boolean({ description: 'install an older release; over the Unix socket only, and never below the floor' }),
  ),
  force_reboot: Type.Optional(
    Type.Boolean({ description: 'reboot when it is installed; passes by no drain and no window' }),
  ),
};

const closed = { additionalProperties: false } as const;

export const DownloadRequest = Type.Object(release, closed);
export type DownloadRequest = Static<typeof DownloadRequest>;

export const ApplyRequest = Type.Object(installation, closed);
export type ApplyRequest = Static<typeof ApplyRequest>;

export const BundleRequest = Type.Object(
  {
    ...installation,
    path: Type.String({ pattern: '^/', maxLength: 4096, description: 'an offline bundle on this host, or its folder' }),
  },
  closed,
);
export type BundleRequest = Static<typeof BundleRequest>;

/** It goes on in the background. */
export const StartedResponse = Type.Object({ status: Type.String(), message: Type.String() });
export type StartedResponse = Static<typeof StartedResponse>;

export const VersionInfo = Type.Object({
  currentVersion: Type.String(),
  channel: ChannelName,
  hostname: Type.String(),
  keyring: Type.Object(
    {
      kind: Type.Enum(['release', 'development', 'none']),
      from: Type.Enum(['executable', 'configuration']),
    },
    { description: 'whose signatures count; anything but release from executable is not for production' },
  ),
  fleet: Type.Optional(
    Type.Object({ nodeId: Type.String(), server: Type.String() }, { description: 'absent: this host stands alone' }),
  ),
});
export type VersionInfo = Static<typeof VersionInfo>;

/** What would become of the VMs here before the reboot. */
export const Outlook = Type.Object({
  message: Type.String(),
  vms: Type.Array(
    Type.Object({ vm: Type.String(), target: Type.Optional(Type.String()), reason: Type.Optional(Type.String()) }),
    { description: 'that run here now, as far as anybody can tell; target: the host that each would move to' },
  ),
  blocks: Type.Array(Type.String()),
  expectedSeconds: Type.Optional(Type.Integer({ minimum: 0, description: 'from past drains' })),
});
export type Outlook = Static<typeof Outlook>;

/** What would be done, step by step, before anything is. */
export const PlanResponse = Type.Object({
  version: Type.Optional(Type.String({ description: 'absent: there is nothing to plan, and refused says why' })),
  steps: Type.Array(Type.String()),
  downloadBytes: Type.Integer({ minimum: 0 }),
  requiresReboot: Type.Boolean(),
  targetSlot: Type.Optional(Type.Enum(['A', 'B'])),
  drain: Type.Optional(Outlook),
  refused: Type.Optional(RefusalInfo()),
});
export type PlanResponse = Static<typeof PlanResponse>;

/** For whoever follows an update: finer than the status, and with the code of what went wrong. */
export const ProgressResponse = Type.Object({
  busy: Type.Boolean(),
  phase: Type.Enum(['idle', 'checking', 'downloading', 'applying']),
  name: Type.String({ description: 'artifact or component that is being worked on' }),
  doneBytes: Type.Integer({ minimum: 0 }),
  totalBytes: Type.Integer({ minimum: 0 }),
  result: Type.Optional(
    Type.Object({
      kind: Type.Enum(['complete', 'reboot_required', 'downloaded', 'refusal', 'failed']),
      version: Type.Optional(Type.String()),
      refused: Type.Optional(RefusalInfo()),
    }),
  ),
});
export type ProgressResponse = Static<typeof ProgressResponse>;

function RefusalInfo() {
  return Type.Object(refusalInfo);
}

const reason = Type.Optional(
  Type.String({ maxLength: 500, description: 'kept in the journal, the log and the audit log' }),
);

export const ReasonRequest = Type.Object({ reason }, closed);

export const ResetRequest = Type.Object(
  {
    downloads: Type.Optional(Type.Boolean({ description: 'also throw away what was downloaded' })),
    seen: Type.Optional(
      Type.Boolean({
        description:
          'also forget the highest sequence and the date that were seen in this channel; only over the Unix socket',
      }),
    ),
    remembered: Type.Optional(
      Type.String({
        minLength: 4,
        maxLength: 2000,
        description:
          'why: begin anew what this host remembers, where state.json cannot be read; only over the Unix socket',
      }),
    ),
  },
  closed,
);
export const ResetResponse = Type.Object({
  success: Type.Literal(true),
  message: Type.String(),
  previousStatus: Type.String(),
  currentStatus: Type.String(),
});
export type ResetResponse = Static<typeof ResetResponse>;

const SlotName = Type.Enum(['A', 'B']);
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

export const RollbackResponse = Type.Object({
  kind: Type.Enum(['rolled_back', 'reboot_required']),
  from: Type.String(),
  to: Type.String(),
});

const Probe = Type.Object({ name: Type.String(), detail: Type.String() });
export const ConfirmResponse = Type.Object({
  kind: Type.Enum(['confirmed', 'trying_again', 'rolling_back']),
  version: Type.String(),
  slot: Type.Optional(SlotName),
  attempt: Type.Optional(Type.Integer({ minimum: 1, description: 'which boot of the trial was not healthy' })),
  attempts: Type.Optional(Type.Integer({ minimum: 1, description: 'how many may not be' })),
  warnings: Type.Optional(Type.Array(Probe)),
  failed: Type.Optional(Type.Array(Probe)),
});

export const MarkRequest = Type.Object(
  {
    mark: Type.Enum(['good', 'bad']),
    slot: Type.Optional(Type.Enum(['A', 'B', 'booted', 'other'], { default: 'booted' })),
  },
  closed,
);
export const MarkResponse = Type.Object({
  kind: Type.Enum(['marked', 'reboot_required']),
  slot: SlotName,
  mark: Type.Enum(['good', 'bad']),
  next: Type.Union([SlotName], { description: 'the slot that boots next' }),
});

export const HoldResponse = Type.Object({
  held: nullable(Type.Object({ at: Type.String({ pattern: INSTANT_PATTERN }), reason: Type.String() })),
});
export type HoldResponse = Static<typeof HoldResponse>;

const SlotInfo = Type.Object({
  slot: SlotName,
  running: Type.Boolean(),
  next: Type.Boolean({ description: 'GRUB takes this one next' }),
  ok: Type.Union([Type.Boolean(), Type.Null()], { description: 'null: the boot environment cannot be read' }),
  tries: nullable(Type.Integer()),
  onTrial: Type.Boolean(),
  version: nullable(Type.String()),
  writtenAt: nullable(Type.String()),
  device: nullable(Type.String()),
  sizeBytes: nullable(Type.Integer()),
});
export type SlotInfo = Static<typeof SlotInfo>;
export const SlotsResponse = Type.Object({ slots: Type.Array(SlotInfo) });

export const HistoryResponse = Type.Object({ entries: Type.Array(HistoryEntry, { description: 'newest first' }) });
export type HistoryResponse = Static<typeof HistoryResponse>;

const Verified = Type.Object({
  what: Type.String({ description: 'slot A, slot B, the name of a component, audit log' }),
  result: Type.Enum(['ok', 'differs', 'unknown']),
  detail: Type.String(),
});
export const VerifyResponse = Type.Object({
  ok: Type.Boolean({ description: 'nothing differs' }),
  checked: Type.Array(Verified),
});
export type VerifyResponse = Static<typeof VerifyResponse>;

/** One event of the stream, its type being the name of the event. */
export const AgentEvent = Type.Union([
  Type.Object({ type: Type.Literal('status'), data: UpdateStatus }),
  Type.Object({ type: Type.Literal('progress'), data: ProgressResponse }),
]);
export type AgentEvent = Static<typeof AgentEvent>;
