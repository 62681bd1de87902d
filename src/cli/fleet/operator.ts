import { type Command, Option } from 'commander';
import { NODE_ROUTES, ROLES, type Role } from '../../format/fleet-routes.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';
import { asName } from './values.ts';

export function addOperator(commands: Command, program: FleetProgram): void {
  const operator = commands
    .command('operator')
    .summary('people and programs with a token')
    .description(
      'Who may use this program over the network: a viewer looks, an operator acts, an admin decides who may.',
    );
  addAdd(operator, program);
  addList(operator, program);
  addRevoke(operator, program);
}

interface AddOptions extends ServerOptions {
  readonly role: Role;
}

function addAdd(operator: Command, program: FleetProgram): void {
  const command = withServer(operator.command('add'))
    .summary('make a token for somebody')
    .description(
      'Makes a token for somebody. It is shown this once; the server keeps nothing that it could be made from.',
    )
    .argument('<name>', 'who gets it', asName)
    .addOption(new Option('--role <role>', 'what it is good for').choices(ROLES).makeOptionMandatory())
    .addHelpText(
      'after',
      examples(
        'qx-fleet operator add alice --role admin',
        'qx-fleet operator add ci --role viewer --json | jq -r .token',
      ),
    );
  asksFor(command, program, NODE_ROUTES.addOperator, {
    asked: ({ role }: AddOptions, [name = '']) => ({ body: { name, role } }),
    told: ({ token }) => `${token}\n`,
    note: ({ name }) => `${name} uses it as QX_FLEET_TOKEN; it is not shown again`,
  });
}

function addList(operator: Command, program: FleetProgram): void {
  const command = withServer(operator.command('list'))
    .summary('who has a token')
    .description('Lists who has a token, with which role, and whose was taken back.')
    .addHelpText('after', examples('qx-fleet operator list', 'qx-fleet operator list --json'));
  asksFor(command, program, NODE_ROUTES.operators, {
    named: 'operators',
    told: (operators) => {
      const rows = operators.map(({ name, role, revoked_at }) => [name, role, revoked_at ?? '-']);
      return rows.length === 0 ? 'Nobody.\n' : table([['NAME', 'ROLE', 'REVOKED'], ...rows]);
    },
  });
}

function addRevoke(operator: Command, program: FleetProgram): void {
  const command = withServer(operator.command('revoke'))
    .summary('take a token back')
    .description('Takes a token back, from its next use on; the name can be given a new one.')
    .argument('<name>', 'whose', asName)
    .addHelpText('after', examples('qx-fleet operator revoke alice'));
  asksFor(command, program, NODE_ROUTES.revokeOperator, {
    asked: (_options: ServerOptions, [operator = '']) => ({ params: { operator } }),
    told: ({ name, revoked_at }) => `the token of ${name} was taken back at ${revoked_at}\n`,
  });
}
