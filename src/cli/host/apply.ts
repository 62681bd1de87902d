import { EXIT, isCode, QxError } from '../../errors.ts';
import type { ApplyRequest } from '../../format/agent-documents.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import { type End, follow } from './follow.ts';
import type { Verb } from './verb.ts';

interface ApplyOptions {
  readonly version?: string;
  readonly component?: readonly string[];
  readonly allowDowngrade?: boolean;
  readonly reboot?: boolean;
  readonly detach?: boolean;
}

const NOTES = `The agent does the work; this command only follows it, and Ctrl-C does not stop the update.

Exit code 0 when it is installed, 3 when there is nothing to install, 4 when a reboot finishes it; 5 refused by policy,
6 another update is under way, 7 verification failed, 8 no space, 9 server unreachable, 10 agent not running.`;

export const apply: Verb<ApplyOptions> = {
  name: 'apply',
  summary: 'Install what the check finds, and show how it goes',
  notes: NOTES,
  examples: [
    'qx-update apply',
    'qx-update apply --version 1.2.0 --reboot',
    'qx-update apply --component qx-console host-ui',
    'qx-update apply --detach && qx-update status',
    'qx-update apply --json 2>progress.jsonl',
  ],
  arguments: (command) =>
    command
      .option('--version <version>', 'only if the release to install is this one; also tries again what failed before')
      .option('--component <name...>', 'only these components, and no system image')
      .option('--allow-downgrade', 'install an older release, though never one below the signed floor')
      .option('--reboot', 'reboot as soon as windows and drains allow, when the update needs it')
      .option('--detach', 'only start it'),
  run: async (context, options) => {
    const { agent, result, note } = context;
    const started = await agent.call(AGENT_ROUTES.apply, { body: requestOf(options) });
    if (options.detach === true) {
      result({ status: started.status, message: started.message }, `${started.message}. Follow it: qx-update status\n`);
      return EXIT.done;
    }
    try {
      const end = await follow(context);
      result(end, endText(end, options));
      return end.kind === 'reboot_required' ? EXIT.rebootRequired : EXIT.done;
    } catch (error) {
      if (isCode(error, 'CANCELLED')) note('The update goes on in the agent.');
      throw error;
    }
  },
};

function requestOf({ version, component, allowDowngrade, reboot }: ApplyOptions): ApplyRequest {
  if (component !== undefined && reboot === true) {
    throw new QxError('USAGE', '--component installs no system image, so there is nothing to reboot for');
  }
  return {
    ...(version === undefined ? {} : { version }),
    ...(component === undefined ? {} : { components: [...component] }),
    ...(allowDowngrade === true ? { allow_downgrade: true } : {}),
    ...(reboot === true ? { force_reboot: true } : {}),
  };
}

function endText({ kind, message }: End, { reboot }: ApplyOptions): string {
  if (kind === 'complete') return `${message}\n`;
  return `${message}\n${reboot === true ? 'The agent reboots when windows and drains allow.\n' : ''}`;
}
