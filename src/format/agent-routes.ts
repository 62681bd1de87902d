import { type Static, Type } from 'typebox';
import { ChannelName } from './manifest.ts';
import type { RouteTable } from './route.ts';
import { NAME_PATTERN } from './schema.ts';
import { VERSION_MAX_LENGTH, VERSION_PATTERN } from './version.ts';

/** The REST interface of the host agent, on its Unix socket and on :8443. Host page and control plane read these fields. */

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
});
export type UpdateStatus = Static<typeof UpdateStatus>;

export const ApplyRequest = Type.Object(
  {
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
    allow_downgrade: Type.Optional(
      Type.Boolean({ description: 'install an older release; over the Unix socket only, and never below the floor' }),
    ),
    force_reboot: Type.Optional(
      Type.Boolean({ description: 'reboot when it is installed; passes by no drain and no window' }),
    ),
  },
  { additionalProperties: false },
);
export type ApplyRequest = Static<typeof ApplyRequest>;

const ApplyResponse = Type.Object({ status: Type.String(), message: Type.String() });
export type ApplyResponse = Static<typeof ApplyResponse>;

const UpdateConfig = Type.Object({
  serverUrl: Type.String(),
  channel: ChannelName,
  autoCheck: Type.Boolean(),
  checkIntervalSecs: Type.Integer({ minimum: 1 }),
});
export type UpdateConfig = Static<typeof UpdateConfig>;

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
});
export type VersionInfo = Static<typeof VersionInfo>;

/** What would be done, step by step, before anything is. */
export const PlanResponse = Type.Object({
  version: Type.Optional(Type.String({ description: 'absent: there is nothing to plan, and refused says why' })),
  steps: Type.Array(Type.String()),
  downloadBytes: Type.Integer({ minimum: 0 }),
  requiresReboot: Type.Boolean(),
  targetSlot: Type.Optional(Type.Enum(['A', 'B'])),
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
      kind: Type.Enum(['complete', 'reboot_required', 'refusal', 'failed']),
      version: Type.Optional(Type.String()),
      refused: Type.Optional(RefusalInfo()),
    }),
  ),
});
export type ProgressResponse = Static<typeof ProgressResponse>;

function RefusalInfo() {
  return Type.Object({ code: Type.String(), detail: Type.String(), next: Type.Optional(Type.String()) });
}

export const AGENT_ROUTES = {
  check: {
    method: 'GET',
    path: '/api/v1/updates/check',
    who: 'open',
    summary: 'Ask the update server what this host may install',
    content: 'json',
    response: UpdateCheckResponse,
  },
  current: {
    method: 'GET',
    path: '/api/v1/updates/current',
    who: 'open',
    summary: 'Installed versions',
    content: 'json',
    response: InstalledVersions,
  },
  status: {
    method: 'GET',
    path: '/api/v1/updates/status',
    who: 'open',
    summary: 'What the agent is doing, and how far it is',
    content: 'json',
    response: UpdateStatus,
  },
  apply: {
    method: 'POST',
    path: '/api/v1/updates/apply',
    who: 'host-admin',
    summary: 'Install what the check found, in the background',
    body: Type.Optional(ApplyRequest),
    content: 'json',
    response: ApplyResponse,
  },
  plan: {
    method: 'GET',
    path: '/api/v1/updates/plan',
    who: 'host-admin',
    summary: 'What apply would do now',
    content: 'json',
    response: PlanResponse,
  },
  progress: {
    method: 'GET',
    path: '/api/v1/updates/progress',
    who: 'host-admin',
    summary: 'How far the update is that is running, or how the last one ended',
    content: 'json',
    response: ProgressResponse,
  },
  health: {
    method: 'GET',
    path: '/health',
    who: 'open',
    summary: 'The agent is up',
    content: 'json',
    response: Type.Object({ status: Type.Literal('healthy') }),
  },
  config: {
    method: 'GET',
    path: '/api/v1/updates/config',
    who: 'open',
    summary: 'Settings of the update agent',
    content: 'json',
    response: UpdateConfig,
  },
  version: {
    method: 'GET',
    path: '/api/v1/updates/version',
    who: 'open',
    summary: 'Version, channel and name of this host, without asking the update server',
    content: 'json',
    response: VersionInfo,
  },
} as const satisfies RouteTable;
