import { resolve } from 'node:path';
import { EXIT, QxError } from '../../errors.ts';
import type { ApplyRequest, DownloadRequest, StartedResponse } from '../../format/agent-documents.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import { asVersion } from '../values.ts';
import { type End, follow } from './follow.ts';
import type { Verb, VerbContext } from './verb.ts';

/** The verbs that begin something in the agent and then follow it. */

interface Selection {
  readonly version?: string;
  readonly component?: readonly string[];
}

interface Followed {
  readonly detach?: boolean;
}

interface Installation extends Selection, Followed {
  readonly allowDowngrade?: boolean;
  readonly reboot?: boolean;
}

const FOLLOWED = 'The agent does the work; this command only follows it, and Ctrl-C does not stop the update.';

const EXITS = `Exit code 0 when it is installed, 3 when there is nothing to install, 4 when a reboot finishes it; 5 refused by policy,
6 another update is under way, 7 verification failed, 8 no space, 9 server unreachable, 10 agent not running.`;

const OPTIONS = {
  component: ['--component <name...>', 'only these components, and no system image'],
  allowDowngrade: ['--allow-downgrade', 'install an older release, though never one below the signed floor'],
  reboot: ['--reboot', 'reboot as soon as windows and drains allow, when the update needs it'],
  detach: ['--detach', 'only start it'],
} as const;

export const apply: Verb<Installation> = {
  name: 'apply',
  summary: 'Install what the check finds, and show how it goes',
  notes: `${FOLLOWED}\n\n${EXITS}`,
  examples: [
    'qx-update apply',
    'qx-update apply --version 1.2.0 --reboot',
    'qx-update apply --component qx-console host-ui',
    'qx-update apply --detach && qx-update status',
    'qx-update apply --json 2>progress.jsonl',
  ],
  arguments: (command) =>
    command
      .option(
        '--version <version>',
        'only if the release to install is this one; also tries again what failed before',
        asVersion,
      )
      .option(...OPTIONS.component)
      .option(...OPTIONS.allowDowngrade)
      .option(...OPTIONS.reboot)
      .option(...OPTIONS.detach),
  run: async (context, options) => {
    const body = installationOf(options);
    return followed(context, () => context.agent.call(AGENT_ROUTES.apply, { body }), options);
  },
};

export const download: Verb<Selection & Followed> = {
  name: 'download',
  summary: 'Fetch and verify what the check finds, and touch nothing',
  notes: `What was fetched stays in the staging folder until it is installed, or until qx-update reset --downloads: apply then only asks for
the manifest.

Exit code 0 when it is all here, 3 when there is nothing newer, 6 another update is under way, 7 verification failed, 8 no space,
9 server unreachable, 10 agent not running.`,
  examples: ['qx-update download', 'qx-update download --version 1.2.0 --detach'],
  arguments: (command) =>
    command
      .option('--version <version>', 'only if the release to fetch is this one', asVersion)
      .option(...OPTIONS.component)
      .option(...OPTIONS.detach),
  run: async (context, options) => {
    const body = selectionOf(options);
    return followed(context, () => context.agent.call(AGENT_ROUTES.download, { body }), options);
  },
};

export const install: Verb<Installation> = {
  name: 'install',
  summary: 'Install from an offline bundle, by the same rules as from the server',
  notes: `A bundle is what qx-release bundle writes, or its unpacked folder. No server is asked: everything is verified against the
signatures in the bundle. ${FOLLOWED}

${EXITS}`,
  examples: [
    'qx-update install /mnt/usb/quantix-os-1.2.0-stable.qxb',
    'qx-update install ./quantix-os-1.2.0-stable.qxb --component qx-console --json',
  ],
  arguments: (command) =>
    command
      .argument('<bundle>', 'file or folder on this host')
      .option(...OPTIONS.component)
      .option(...OPTIONS.allowDowngrade)
      .option(...OPTIONS.reboot)
      .option(...OPTIONS.detach),
  run: async (context, options, [bundle = '']) => {
    const body = { path: resolve(bundle), ...installationOf(options) };
    return followed(context, () => context.agent.call(AGENT_ROUTES.install, { body }), options, 'reading');
  },
};

const selectionOf = ({ version, component }: Selection): DownloadRequest => ({
  ...(version === undefined ? {} : { version }),
  ...(component === undefined ? {} : { components: [...component] }),
});

function installationOf(options: Installation): ApplyRequest {
  const { component, allowDowngrade, reboot } = options;
  if (component !== undefined && reboot === true) {
    throw new QxError('USAGE', '--component installs no system image, so there is nothing to reboot for');
  }
  return {
    ...selectionOf(options),
    ...(allowDowngrade === true ? { allow_downgrade: true } : {}),
    ...(reboot === true ? { force_reboot: true } : {}),
  };
}

async function followed(
  context: VerbContext,
  order: () => Promise<StartedResponse>,
  options: Followed & Pick<Installation, 'reboot'>,
  fetching?: string,
): Promise<number> {
  if (options.detach === true) {
    const { status, message } = await order();
    context.result({ status, message }, `${message}. Follow it: qx-update status\n`);
    return EXIT.done;
  }
  const signal = context.interrupted();
  await order();
  const end = await follow(context, signal, fetching);
  context.result(end, endText(end, options));
  return end.kind === 'reboot_required' ? EXIT.rebootRequired : EXIT.done;
}

function endText({ kind, message }: End, { reboot }: Pick<Installation, 'reboot'>): string {
  if (kind !== 'reboot_required') return `${message}\n`;
  return `${message}\n${reboot === true ? 'The agent reboots when windows and drains allow.\n' : ''}`;
}
