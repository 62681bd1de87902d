import { EXIT, QxError } from '../../errors.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import type { Verb } from './verb.ts';

/** Short orders to the agent: it has followed them when it answers. */

const AGENT_DOWN = '10 when the agent does not run';

export const cancel: Verb = {
  name: 'cancel',
  summary: 'Stop the update or download that is running at its next safe point',
  notes: `What was downloaded stays, and the host is as it was before the update.
Exit code 0 when it was told to stop, 3 when nothing is running, ${AGENT_DOWN}.`,
  examples: ['qx-update cancel', 'qx-update cancel && qx-update status'],
  run: async ({ agent, result }) => {
    const { status, message } = await agent.call(AGENT_ROUTES.cancel);
    result({ status, message }, `${message}.\n`);
    return EXIT.done;
  },
};

interface ResetOptions {
  readonly downloads?: boolean;
  readonly seen?: boolean;
  readonly remembered?: boolean;
  readonly reason?: string;
}

export const reset: Verb<ResetOptions> = {
  name: 'reset',
  summary: 'Dismiss how the last update ended; what is installed stays',
  notes: `A release that failed here stays refused: qx-update apply --version tries it again.
A release that was made with a wrong clock may have left a sequence or a date behind that shuts out all others (SEQUENCE_REPLAYED,
EXPIRED): --seen forgets both for the channel of this host, and is in its audit log. The version rules and the floor stay.
Where /quantix/limiquantix/state.json cannot be read (STATE_INVALID), --remembered begins it anew, with a reason for the audit log: the
floor is then what ran before the last update, or what that update asked for; which releases failed, a hold and what lies on the
slots is forgotten. Nothing happens where it can be read.
Exit code 0 when it is done, 6 while an update runs, ${AGENT_DOWN}.`,
  examples: [
    'qx-update reset',
    'qx-update reset --downloads',
    'qx-update reset --seen',
    "qx-update reset --remembered --reason 'a full disk'",
  ],
  arguments: (command) =>
    command
      .option('--downloads', 'also throw away what was downloaded')
      .option('--seen', 'also forget the highest sequence and the date that were seen in this channel')
      .option('--remembered', 'begin anew what this host remembers, where that cannot be read')
      .option('--reason <text>', 'why, with --remembered'),
  run: async ({ agent, result }, { downloads, seen, remembered, reason }) => {
    if ((remembered === true) !== (reason !== undefined))
      throw new QxError('USAGE', '--remembered and --reason TEXT go together');
    const body = {
      ...(downloads === true ? { downloads } : {}),
      ...(seen === true ? { seen } : {}),
      ...(reason === undefined ? {} : { remembered: reason }),
    };
    const done = await agent.call(AGENT_ROUTES.reset, { body });
    result(done, `${done.message}: ${said(done.previousStatus)} -> ${said(done.currentStatus)}.\n`);
    return EXIT.done;
  },
};

const said = (status: string): string => status.replaceAll('_', ' ');

export const hold: Verb<{ readonly reason?: string }> = {
  name: 'hold',
  summary: 'Install nothing, and reboot into nothing that was installed, until the hold is lifted',
  notes: `Checks and downloads go on; a rollback is still possible, and a reboot where no image waits for it. qx-update status shows the hold, qx-update unhold lifts it.
Exit code 0 when updates are on hold, 6 while an update runs, ${AGENT_DOWN}.`,
  examples: ['qx-update hold', "qx-update hold --reason 'audit until Friday'"],
  arguments: (command) => command.option('--reason <text>', 'shown by status, and kept in the audit log'),
  run: async ({ agent, result }, { reason }) => {
    const done = await agent.call(AGENT_ROUTES.hold, { body: reason === undefined ? {} : { reason } });
    result(done, `Updates are on hold: ${done.held?.reason ?? ''}\n`);
    return EXIT.done;
  },
};

export const unhold: Verb = {
  name: 'unhold',
  summary: 'Lift the hold',
  notes: `Exit code 0 also when there was none, 6 while an update runs, ${AGENT_DOWN}.`,
  examples: ['qx-update unhold', 'qx-update unhold && qx-update apply'],
  run: async ({ agent, result }) => {
    result(await agent.call(AGENT_ROUTES.unhold), 'Updates are not on hold.\n');
    return EXIT.done;
  },
};

export const reboot: Verb = {
  name: 'reboot',
  summary: 'Reboot this host, when windows and drains allow it',
  notes: `Exit code 0 when it reboots now, 5 when a window, a drain, a file in /run/quantix/inhibit or, with an image that waits, a hold forbids it, 6 while an update runs,
${AGENT_DOWN}.`,
  examples: ['qx-update reboot', 'qx-update apply || { [ $? = 4 ] && qx-update reboot; }'],
  run: async ({ agent, result }) => {
    const { status, message } = await agent.call(AGENT_ROUTES.reboot);
    result({ status, message }, `${message}.\n`);
    return EXIT.done;
  },
};
