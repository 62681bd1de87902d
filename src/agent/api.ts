import type { Plan, Refusal } from '../core/plan.ts';
import { QxError } from '../errors.ts';
import type { AGENT_ROUTES, PlanResponse, ProgressResponse, UpdateCheckResponse } from '../format/agent-routes.ts';
import type { Handlers, Reply } from '../ports/serving.ts';
import type { Agent, Finished } from './agent.ts';
import { situation } from './facts.ts';
import type { Host } from './host.ts';
import type { HostKeyring } from './keyring.ts';

/** The REST interface of the host agent: each route is a few lines over the agent. */
export const agentHandlers = (
  host: Host,
  agent: Agent,
  hostname: string,
  keyringFrom: HostKeyring['keyringFrom'],
): Handlers<typeof AGENT_ROUTES> => ({
  check: async ({ signal }) => ({ json: await checkResponse(host, await agent.check(signal)) }),
  status: async () => ({ json: await agent.status() }),
  progress: async () => ({ json: progressResponse(agent) }),
  health: async () => ({ json: { status: 'healthy' } }),
  plan: async ({ signal }) => ({ json: planResponse(await agent.check(signal)) }),

  current: async () => {
    const { facts } = await situation(host);
    const versions = { qxNode: 'qx-node', qxConsole: 'qx-console', hostUi: 'host-ui' } as const;
    const installed = Object.entries(versions).flatMap(([field, name]) => {
      const version = facts.components.get(name);
      return version === undefined ? [] : [[field, version] as const];
    });
    return { json: { osVersion: facts.osVersion, ...Object.fromEntries(installed) } };
  },

  apply: async ({ body, caller }) => {
    if (!host.config.enabled) return refused('UPDATES_DISABLED', 'updates are switched off by updates.enabled: false');
    if (body?.allow_downgrade === true && caller.via !== 'unix') {
      return refused('DOWNGRADE_NEEDS_ROOT', 'a downgrade is only taken from root on this host');
    }
    const request = {
      ...(body?.version === undefined ? {} : { version: body.version }),
      ...(body?.components === undefined ? {} : { components: body.components }),
      ...(body?.allow_downgrade === undefined ? {} : { allowDowngrade: body.allow_downgrade }),
    };
    // Its end is in the status, the journal and the log; the caller only waits for its beginning.
    void agent.start({ request, reboot: body?.force_reboot ?? false });
    return { json: { status: 'started', message: 'Update process started' } };
  },

  config: async () => {
    const { serverUrl, channel, autoCheck, checkIntervalMs } = host.config;
    return { json: { serverUrl, channel, autoCheck, checkIntervalSecs: Math.round(checkIntervalMs / 1000) } };
  },

  version: async () => {
    const { facts } = await situation(host);
    const keyring = { kind: host.keyring.kind, from: keyringFrom };
    return { json: { currentVersion: facts.version, channel: host.config.channel, hostname, keyring } };
  },
});

const refused = (code: ConstructorParameters<typeof QxError>[0], detail: string): Reply<never> => ({
  refused: new QxError(code, detail),
});

async function checkResponse(host: Host, plan: Plan | Refusal): Promise<UpdateCheckResponse> {
  const { facts } = await situation(host);
  const { channel } = host.config;
  if (plan.kind === 'refusal') return nothingNew(plan, facts.version, channel);
  const { manifest, components, image, downloadBytes } = plan;
  return {
    available: true,
    currentVersion: facts.version,
    availableVersion: manifest.version,
    channel,
    components: components.map((c) => {
      const currentVersion = facts.components.get(c.name);
      return {
        name: c.name,
        newVersion: c.version,
        sizeBytes: c.size_bytes,
        ...(currentVersion ? { currentVersion } : {}),
      };
    }),
    fullImageAvailable: image !== null,
    totalDownloadSize: downloadBytes,
    ...(manifest.release_notes === undefined ? {} : { releaseNotes: manifest.release_notes }),
  };
}

/** Nothing newer is an answer; a release that was refused is a failure that must not look like one. */
function nothingNew(
  plan: Refusal,
  currentVersion: string,
  channel: UpdateCheckResponse['channel'],
): UpdateCheckResponse {
  if (plan.code !== 'NOTHING_NEWER' && plan.code !== 'NO_RELEASE') throw asError(plan);
  const none = { available: false, components: [], fullImageAvailable: false, totalDownloadSize: 0 };
  return { ...none, currentVersion, channel };
}

const asError = ({ code, detail, next }: Refusal): QxError =>
  new QxError(code, detail, next === undefined ? {} : { next });

function planResponse(plan: Plan | Refusal): PlanResponse {
  if (plan.kind === 'refusal')
    return { steps: [], downloadBytes: 0, requiresReboot: false, refused: refusalInfo(plan) };
  const { manifest, downloadBytes, requiresReboot, targetSlot } = plan;
  return {
    version: manifest.version,
    steps: stepsOf(plan),
    downloadBytes,
    requiresReboot,
    ...(targetSlot === null ? {} : { targetSlot }),
  };
}

const stepsOf = ({ components, image, targetSlot }: Plan): string[] => [
  `download ${[...components, ...(image === null ? [] : [image])].map((a) => a.artifact).join(', ')}`,
  ...(image === null ? [] : [`write ${image.artifact} to slot ${targetSlot} and read it back`]),
  ...components.map((c) => {
    const restart = c.restart_service ? `, restart ${c.restart_service}` : '';
    return `replace ${c.name} by ${c.version} at ${c.install_path}${restart}`;
  }),
  ...(image === null ? [] : [`boot slot ${targetSlot} next, on trial`]),
];

const refusalInfo = ({ code, detail, next }: Refusal | { code: string; detail: string; next?: string }) => ({
  code,
  detail,
  ...(next === undefined ? {} : { next }),
});

function progressResponse(agent: Agent): ProgressResponse {
  const activity = agent.activity();
  const finished = agent.lastFinished();
  const { name, doneBytes, totalBytes } = { name: '', doneBytes: 0, totalBytes: 0, ...activity };
  return {
    busy: activity.kind !== 'idle',
    phase: activity.kind,
    name,
    doneBytes,
    totalBytes,
    ...(finished === null ? {} : { result: resultOf(finished) }),
  };
}

function resultOf(finished: Finished): NonNullable<ProgressResponse['result']> {
  switch (finished.kind) {
    case 'refusal':
      return { kind: 'refusal', refused: refusalInfo(finished) };
    case 'failed': {
      const { code, message, next } = finished.error;
      return {
        kind: 'failed',
        refused: refusalInfo({ code, detail: message, ...(next === undefined ? {} : { next }) }),
      };
    }
    default:
      return { kind: finished.kind, version: finished.version };
  }
}
