import { type Command, InvalidArgumentError } from 'commander';
import { NODE_ROUTES, type OpenInvite } from '../../format/fleet-routes.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';

/** Verbs of `qx-fleet node` about invitations that nobody has used. */
export function addInvites(node: Command, program: FleetProgram): void {
  const list = withServer(node.command('invites'))
    .summary('the invitations that can still be used')
    .description(
      'Lists the invitations that nobody has used and that have not run out. Their join strings are not kept.',
    )
    .addHelpText('after', examples('qx-fleet node invites', 'qx-fleet node invites --json'));
  asksFor(list, program, NODE_ROUTES.invites, {
    named: 'invites',
    told: (invites) => (invites.length === 0 ? 'No invitation is open.\n' : listed(invites)),
  });
  const withdraw = withServer(node.command('uninvite'))
    .summary('take an invitation back that nobody has used')
    .description(
      'Takes an invitation back, from its next use on: its join string went astray, or the host does not come.',
    )
    .argument('<invite>', 'id of the invitation, as qx-fleet node invites shows it', asInvite)
    .requiredOption('--reason <text>', 'why, for the audit trail')
    .addHelpText('after', examples("qx-fleet node uninvite a1b2c3d4e5 --reason 'the mail went to the wrong list'"));
  asksFor(withdraw, program, NODE_ROUTES.withdrawInvite, {
    asked: ({ reason }: WithdrawOptions, [invite = '']) => ({ params: { invite }, body: { reason } }),
    told: ({ node_id, invite_id }) => `Nobody can enrol as ${node_id} by ${invite_id} any more\n`,
  });
}

interface WithdrawOptions extends ServerOptions {
  readonly reason: string;
}

const listed = (invites: readonly OpenInvite[]): string =>
  table([['INVITE', 'NAME', 'GROUP', 'APPROVAL', 'MADE BY', 'MADE', 'GOOD UNTIL'], ...invites.map(row)]);

const row = (invite: OpenInvite): string[] => [
  invite.invite_id,
  invite.node_id,
  invite.group,
  invite.needs_approval ? 'yes' : 'no',
  invite.invited_by ?? '-',
  invite.created_at ?? '-',
  invite.expires_at,
];

function asInvite(text: string): string {
  if (/^[a-z0-9]{1,64}$/.test(text)) return text;
  throw new InvalidArgumentError('Not the id of an invitation: lower-case letters and digits.');
}
