import { type Command, InvalidArgumentError } from 'commander';
import { BUDGET_DOMAIN_PATTERN, BUDGET_ROUTES, type BudgetRow } from '../../format/budget-routes.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';

export function addBudget(commands: Command, program: FleetProgram): void {
  const budget = commands
    .command('budget')
    .summary('how many hosts may be away at once')
    .description(
      'How many hosts may be away at once: in a group (group:NAME, group:* for all others), and of those that share a label.',
    );
  addList(budget, program);
  addSet(budget, program);
  addUnset(budget, program);
}

function addList(budget: Command, program: FleetProgram): void {
  const command = withServer(budget.command('list'))
    .summary('the budgets, and who is away now')
    .description('Lists the budgets, the standard ones too, and who holds a place now.')
    .addHelpText('after', examples('qx-fleet budget list', 'qx-fleet budget list --json'));
  asksFor(command, program, BUDGET_ROUTES.budgets, {
    told: ({ budgets, away }) => {
      const limits = table([['OF', 'AT MOST'], ...budgets.map((row) => [row.domain, inWords(row)])]);
      const rows = away.map(({ holder, domains, since }) => [holder, since, domains.join(', ')]);
      return `${limits}\n${rows.length === 0 ? 'Nobody is away.\n' : table([['AWAY', 'SINCE', 'COUNTS IN'], ...rows])}`;
    },
  });
}

function inWords({ max_hosts, max_percent, is_standard }: BudgetRow): string {
  const hosts = max_hosts === null ? [] : [`${max_hosts} ${max_hosts === 1 ? 'host' : 'hosts'}`];
  const share = max_percent === null ? [] : [`${max_percent} % of the hosts`];
  return `${[...hosts, ...share].join(', and ')}${is_standard ? ' (standard)' : ''}`;
}

const DOMAIN = new RegExp(BUDGET_DOMAIN_PATTERN);

function asDomain(text: string): string {
  if (DOMAIN.test(text)) return text;
  throw new InvalidArgumentError('Not like group:default, group:* or a label such as rack.');
}

const numberUpTo =
  (most: number) =>
  (text: string): number => {
    if (/^[0-9]{1,7}$/.test(text) && Number(text) <= most) return Number(text);
    throw new InvalidArgumentError(`Not a whole number up to ${most}.`);
  };

interface SetOptions extends ServerOptions {
  readonly hosts?: number;
  readonly percent?: number;
}

function addSet(budget: Command, program: FleetProgram): void {
  const command = withServer(budget.command('set'))
    .summary('set a budget')
    .description(
      'Sets how many may be away at once; the smaller of the two counts, 0 lets nobody go. It calls nobody back. For admins.',
    )
    .argument('<of>', 'group:NAME, group:*, or a label such as rack: each of its values apart', asDomain)
    .option('--hosts <number>', 'so many', numberUpTo(1_000_000))
    .option('--percent <number>', 'such a share of the enrolled hosts there, rounded up', numberUpTo(100))
    .addHelpText(
      'after',
      examples(
        'qx-fleet budget set group:default --percent 10',
        'qx-fleet budget set rack --hosts 2',
        "qx-fleet budget set 'group:*' --hosts 0",
      ),
    );
  asksFor(command, program, BUDGET_ROUTES.setBudget, {
    asked: ({ hosts, percent }: SetOptions, [domain = '']) => ({
      params: { domain },
      body: { max_hosts: hosts ?? null, max_percent: percent ?? null },
    }),
    told: (row) => `${row.domain}: at most ${inWords(row)}\n`,
  });
}

function addUnset(budget: Command, program: FleetProgram): void {
  const command = withServer(budget.command('unset'))
    .summary('back to the standard')
    .description('Takes back a budget that somebody has set. For admins.')
    .argument('<of>', 'as it was set', asDomain)
    .addHelpText('after', examples('qx-fleet budget unset rack'));
  asksFor(command, program, BUDGET_ROUTES.unsetBudget, {
    asked: (_options: ServerOptions, [domain = '']) => ({ params: { domain } }),
    told: ({ domain }) => `${domain}: the standard again\n`,
  });
}
