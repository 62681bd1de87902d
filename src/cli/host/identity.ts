import { EXIT } from '../../errors.ts';
import { table } from '../render.ts';
import { asReason } from '../values.ts';
import { OPERATOR, type Verb, type VerbGroup } from './verb.ts';

const EXITS = 'Works without the agent. Exit code 0 when it is done, 5 when you are not root';

const show: Verb = {
  name: 'show',
  summary: 'Print what others know this host by, and the hardware that its identity was made with',
  notes: `${EXITS}, or when the identity is that of another machine.`,
  examples: ['qx-update identity show', 'qx-update identity show --json | jq -r .boot'],
  run: async (context) => {
    const { showIdentity } = await import('../../agent/fleet/binding.ts');
    const { refused, ...shown } = await context.onHost((host) => showIdentity(host));
    const fault = refused && { code: refused.code, detail: refused.message, next: refused.next };
    const rows = [
      ['Fleet', shown.fleet === null ? 'none' : `${shown.fleet.node_id} at ${shown.fleet.server}`],
      ['FleetLock id', shown.fleetlock_id],
      ['Boot', shown.boot],
      ...(fault === null
        ? []
        : [
            ['Refused', `${fault.detail} [${fault.code}]`],
            ['', `next: ${fault.next}`],
          ]),
    ];
    const marks = shown.hardware.map(({ mark, made_with, now }) => [mark, made_with, now]);
    const text = `${table(rows)}\n${table([['HARDWARE', 'MADE WITH', 'NOW'], ...marks])}`;
    context.result({ ...shown, refused: fault }, text);
    return fault === null ? EXIT.done : EXIT.policy;
  },
};

const keep: Verb<{ readonly reason: string }> = {
  name: 'keep',
  summary: 'Say that this is the host that its identity was made on, after an exchange of hardware',
  notes: `${EXITS}, 3 when nothing says that it is another machine.
Never on a copy: with two machines of one identity the fleet refuses both. The agent needs no restart.`,
  examples: ["qx-update identity keep --reason 'new main board'"],
  arguments: (command) => command.requiredOption('--reason <text>', 'why, for the audit log', asReason),
  run: async (context, { reason }) => {
    const { keepIdentity } = await import('../../agent/fleet/binding.ts');
    await context.onHost((host) => keepIdentity(host, reason, OPERATOR));
    context.result({ kept: true }, 'The identity on this disk is that of this host.\n');
    return EXIT.done;
  },
};

export const identity: VerbGroup = {
  name: 'identity',
  summary: 'Show who this host is to others, or keep it after an exchange of hardware',
  notes: 'The identity of a host is bound to its hardware: a copy of its disk is another host.',
  verbs: [show, keep],
};
