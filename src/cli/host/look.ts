import { ERRORS, EXIT, isCode } from '../../errors.ts';
import type {
  InstalledVersions,
  PlanResponse,
  UpdateCheckResponse,
  UpdateStatus,
  VersionInfo,
} from '../../format/agent-documents.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import { durationText } from '../../format/config.ts';
import { knownCode } from '../client.ts';
import { formatBytes, table } from '../render.ts';
import type { Verb } from './verb.ts';

/** The verbs that only look: they ask the agent and change nothing. */

/** The agent itself gives up on a server that does not answer much earlier. */
const CHECK_TIMEOUT_MS = 180_000;

export const status: Verb = {
  name: 'status',
  summary: 'Show what the agent is doing, and what it did last',
  notes: 'Exit code 0 whatever the status is, since looking succeeded; 10 when the agent does not run.',
  examples: ['qx-update status', 'qx-update --status', "qx-update status --json | jq -r '.status'"],
  run: async ({ agent, result }) => {
    const now = await agent.call(AGENT_ROUTES.status);
    // An agent that refuses its settings knows no more than that.
    const version = await agent.call(AGENT_ROUTES.version).catch((error: unknown) => {
      if (isCode(error, 'SETTINGS_REFUSED', 'MOUNT_MISSING')) return null;
      throw error;
    });
    result({ ...now, ...version }, statusText(now, version));
    return EXIT.done;
  },
};

function statusText(
  { status: state, message, progress, held, waitsFor, identity, certificate, closed = [] }: UpdateStatus,
  version: VersionInfo | null,
): string {
  const rows = [
    ['Status', `${state.replaceAll('_', ' ')}${progress === undefined ? '' : ` ${progress} %`}`],
    ...(message === undefined || message === identity?.detail ? [] : [['', message]]),
    ...(held === undefined ? [] : [['On hold', held]]),
    ...(waitsFor === undefined ? [] : [['Waits', waitsFor]]),
    ...certificateRows(certificate),
    ...closed.flatMap(({ door, detail, code, next }) => [
      ['Closed', `${DOORS[door]}: ${detail} [${code}]`],
      ...(next === undefined ? [] : [['', `next: ${next}`]]),
    ]),
    ...(identity === undefined ? [] : [['Identity', `${identity.detail} [${identity.code}]`]]),
    ...(identity?.next === undefined ? [] : [['', `next: ${identity.next}`]]),
  ];
  if (version === null) return table(rows);
  const { fleet } = version;
  rows.push(['Version', `${version.currentVersion} (channel ${version.channel})`], ['Host', version.hostname]);
  if (fleet !== undefined) rows.push(['Fleet', `${fleet.nodeId} at ${fleet.server}`]);
  const { kind, from } = version.keyring;
  if (kind !== 'release' || from !== 'executable')
    rows.push(['Keyring', `${keyringText(version)}, not for production`]);
  return table(rows);
}

const DOORS = {
  api_token: 'the network, by token',
  client_ca: 'the network, by client certificate',
  network: 'the network',
} as const;

function certificateRows({ expiresAt, problem }: NonNullable<UpdateStatus['certificate']> = {}): string[][] {
  return [
    ...(expiresAt === undefined ? [] : [['Certificate', `of the network interface, expires ${expiresAt}`]]),
    ...(problem === undefined ? [] : [['Certificate', `the new one is not taken: ${problem}`]]),
  ];
}

const keyringText = ({ keyring: { kind, from } }: VersionInfo): string => {
  if (from === 'configuration') return `${kind}, taken from the configuration`;
  return kind === 'none' ? 'none: no release can be verified' : kind;
};

export const check: Verb = {
  name: 'check',
  summary: 'Ask the update server what this host may install',
  notes:
    'Exit code 0 when there is something to install, 3 when there is nothing newer, 4 when a reboot has to come first.',
  examples: ['qx-update check', 'qx-update --check', 'qx-update check --json && qx-update apply'],
  run: async ({ agent, result }) => {
    const found = await agent.call(AGENT_ROUTES.check, { timeoutMs: CHECK_TIMEOUT_MS });
    result(found, checkText(found));
    if (found.available) return EXIT.done;
    return found.waitsForReboot === undefined ? EXIT.nothing : EXIT.rebootRequired;
  },
};

function checkText(found: UpdateCheckResponse): string {
  const { available, availableVersion = '', channel, currentVersion, components, releaseNotes } = found;
  if (found.waitsForReboot !== undefined) {
    return `Release ${found.waitsForReboot} is installed and waits for its reboot; nothing newer on channel ${channel}.\n`;
  }
  if (!available) return `Nothing newer than ${currentVersion} on channel ${channel}.\n`;
  const rows = components.map((c) => [
    `  ${c.name}`,
    `${c.currentVersion ?? 'not installed'} -> ${c.newVersion}`,
    formatBytes(c.sizeBytes),
  ]);
  if (found.fullImageAvailable) rows.push(['  system image', `-> ${availableVersion}`, 'needs a reboot']);
  if (found.replaces !== undefined)
    rows.push([`  takes the place of ${found.replaces}`, '', 'which waits for its reboot']);
  const notes = releaseNotes === undefined ? '' : `\n${releaseNotes}\n`;
  const total = formatBytes(found.totalDownloadSize);
  return `${currentVersion} -> ${availableVersion} on channel ${channel}, ${total} to download\n${table(rows)}${notes}`;
}

export const plan: Verb = {
  name: 'plan',
  summary: 'Show, step by step, what apply would do now',
  notes: 'Exit code 0 when there is a plan; otherwise that of the reason, such as 3 for nothing newer.',
  examples: ['qx-update plan', "qx-update plan --json | jq -r '.steps[]'"],
  run: async ({ agent, result }) => {
    const planned = await agent.call(AGENT_ROUTES.plan, { timeoutMs: CHECK_TIMEOUT_MS });
    result(planned, planText(planned));
    return planned.refused === undefined ? EXIT.done : EXIT[ERRORS[knownCode(planned.refused.code)].exit];
  },
};

function planText({ version, steps, downloadBytes, requiresReboot, drain, refused }: PlanResponse): string {
  if (refused !== undefined) {
    return `${refused.detail} [${refused.code}]\n${refused.next === undefined ? '' : `  next: ${refused.next}\n`}`;
  }
  const list = steps.map((step, i) => `  ${i + 1}. ${step}\n`).join('');
  const end = requiresReboot ? 'then a reboot' : 'no reboot';
  return `Release ${version}: ${formatBytes(downloadBytes)} to download, ${end}\n${list}${drain === undefined ? '' : drainText(drain)}`;
}

function drainText({ message, vms, blocks, expectedSeconds }: NonNullable<PlanResponse['drain']>): string {
  const time =
    expectedSeconds === undefined
      ? ''
      : `, about ${durationText(Math.max(1, expectedSeconds) * 1000)} from past drains`;
  const rows = vms.map(({ vm, target, reason = '' }) => [
    `  ${vm}`,
    target === undefined ? '' : `-> ${target}`,
    reason,
  ]);
  const stops = blocks.map((block) => `  blocks: ${block}\n`).join('');
  return `Before the reboot: ${message}${time}\n${rows.length === 0 ? '' : table(rows)}${stops}`;
}

export const current: Verb = {
  name: 'current',
  summary: 'Show the installed versions',
  notes: 'A component that is not listed is not installed. Exit code 0, or 10 when the agent does not run.',
  examples: ['qx-update current', "qx-update current --json | jq -r '.qxNode'"],
  run: async ({ agent, result }) => {
    const versions = await agent.call(AGENT_ROUTES.current);
    result(versions, currentText(versions));
    return EXIT.done;
  },
};

const NAMES = { osVersion: 'Quantix-OS', qxNode: 'qx-node', qxConsole: 'qx-console', hostUi: 'host-ui' } as const;

const currentText = (versions: InstalledVersions): string =>
  table(
    Object.entries(NAMES).flatMap(([field, name]) => {
      const version = versions[field as keyof InstalledVersions];
      return version === undefined ? [] : [[name, version]];
    }),
  );
