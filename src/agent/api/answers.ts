import type { HostFacts, Plan, Refusal } from '../../core/plan.ts';
import { type Code, fieldsOf, QxError } from '../../errors.ts';
import type {
  InstalledVersions,
  PlanResponse,
  ProgressResponse,
  UpdateCheckResponse,
  UpdateStatus,
} from '../../format/agent-documents.ts';
import type { CertificateState } from '../../ports/serving.ts';
import type { Agent, Finished } from '../agent.ts';
import { situation } from '../facts.ts';
import type { Host } from '../host.ts';

/** What the agent knows, as the documents of its REST interface say it. */

const COMPONENT_FIELDS = { qxNode: 'qx-node', qxConsole: 'qx-console', hostUi: 'host-ui' } as const;

export function versionsOf({ osVersion, components }: HostFacts): InstalledVersions {
  const installed = Object.entries(COMPONENT_FIELDS).flatMap(([field, name]) => {
    const version = components.get(name);
    return version === undefined ? [] : [[field, version] as const];
  });
  return { osVersion, ...Object.fromEntries(installed) };
}

export async function checkResponse(host: Host, plan: Plan | Refusal): Promise<UpdateCheckResponse> {
  const { facts } = await situation(host);
  const { channel } = host.config;
  if (plan.kind === 'refusal') return nothingNew(plan, facts, channel);
  const { manifest, components, image, downloadBytes, replaces } = plan;
  return {
    available: true,
    currentVersion: facts.currentVersion,
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
    ...(replaces === null ? {} : { replaces }),
    ...(manifest.release_notes === undefined ? {} : { releaseNotes: manifest.release_notes }),
  };
}

/** Nothing newer is an answer; a release that was refused is a failure that must not look like one. */
function nothingNew(
  plan: Refusal,
  { currentVersion, armed }: HostFacts,
  channel: UpdateCheckResponse['channel'],
): UpdateCheckResponse {
  if (!NOTHING.has(plan.code)) throw asError(plan);
  const none = { available: false, components: [], fullImageAvailable: false, totalDownloadSize: 0 };
  return { ...none, currentVersion, channel, ...(armed === null ? {} : { waitsForReboot: armed.version }) };
}

const NOTHING: ReadonlySet<Code> = new Set<Code>(['NOTHING_NEWER', 'NO_RELEASE', 'ALREADY_INSTALLED']);

const asError = ({ code, detail, next }: Refusal): QxError =>
  new QxError(code, detail, next === undefined ? {} : { next });

export function planResponse(plan: Plan | Refusal): PlanResponse {
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

const stepsOf = ({ components, image, targetSlot, replaces }: Plan): string[] => [
  ...(replaces === null ? [] : [`take back release ${replaces}, which waits for its reboot`]),
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

export function progressResponse(agent: Agent): ProgressResponse {
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

/** A way over the network that is closed, and why. */
export type Closed = readonly [door: NonNullable<UpdateStatus['closed']>[number]['door'], why: QxError];

/** Only what somebody has to do something about. */
export function doorsResponse(
  { notAfterMs, isSoonOver, fault }: CertificateState,
  closed: readonly Closed[],
): Pick<UpdateStatus, 'certificate' | 'closed'> {
  // Without one in use the network itself is closed, and says why.
  if (notAfterMs === null) return closedOf(closed);
  const expires = isSoonOver ? { expiresAt: new Date(notAfterMs).toISOString() } : {};
  const problem = fault === null ? {} : { problem: fault };
  return { ...(isSoonOver || fault !== null ? { certificate: { ...expires, ...problem } } : {}), ...closedOf(closed) };
}

const closedOf = (closed: readonly Closed[]): Pick<UpdateStatus, 'closed'> =>
  closed.length === 0 ? {} : { closed: closed.map(([door, why]) => ({ door, ...fieldsOf(why) })) };
