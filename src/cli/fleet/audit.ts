import type { Command } from 'commander';
import { EXIT } from '../../errors.ts';
import { AUDIT_MOST, AUDIT_ROUTES, type ServerAuditEvent, type ServerAuditVerdict } from '../../format/audit-routes.ts';
import { table } from '../render.ts';
import { examples, runs } from '../verb.ts';
import { asksFor, fleetServer, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';
import { asCount, asSubject } from './values.ts';

export function addAudit(commands: Command, program: FleetProgram): void {
  const audit = commands
    .command('audit')
    .summary('what happened in the fleet, and who did it')
    .description(
      'What the server has recorded: every change of hosts, operators, budgets and maintenance, with who made it.',
    );
  addList(audit, program);
  addVerify(audit, program);
}

interface ListOptions extends ServerOptions {
  readonly subject?: string;
  readonly limit: number;
}

function addList(audit: Command, program: FleetProgram): void {
  const command = withServer(audit.command('list'))
    .summary('the newest events')
    .description('Lists what happened and who did it, newest last.')
    .option(
      '--subject <name>',
      'only of this host, or of operator:NAME, invite:ID, fleetlock:GROUP/ID, budget, clock or authority',
      asSubject,
    )
    .option('--limit <number>', 'the newest so many', asCount(AUDIT_MOST), 50)
    .addHelpText(
      'after',
      examples(
        'qx-fleet audit list --limit 20',
        'qx-fleet audit list --subject qhci-01',
        "qx-fleet audit list --subject operator:alice --json | jq -r '.events[].event'",
      ),
    );
  asksFor(command, program, AUDIT_ROUTES.audit, {
    named: 'events',
    asked: ({ subject, limit }: ListOptions) => ({
      query: { limit: String(limit), ...(subject === undefined ? {} : { subject }) },
    }),
    told: (events) => (events.length === 0 ? 'No event.\n' : listed(events)),
  });
}

const listed = (events: readonly ServerAuditEvent[]): string =>
  table([['AT', 'ABOUT', 'EVENT', 'BY', 'WHAT'], ...events.map(row)]);

const row = ({ at, subject, node_id, event, actor, fields }: ServerAuditEvent): string[] => [
  at,
  node_id ?? subject,
  event.replaceAll('_', ' '),
  actor,
  Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(' '),
];

function addVerify(audit: Command, program: FleetProgram): void {
  const command = withServer(audit.command('verify'))
    .summary('whether the record is as it was written')
    .description(
      `Reads the whole record and says what in it was edited or taken away. The events of each host, operator and budget form a chain of
hashes; where chains end is sealed every minute, in a chain of its own. Exit code 7 when one is broken. For admins.`,
    )
    .addHelpText('after', examples('qx-fleet audit verify', 'qx-fleet audit verify --json | jq .last_seal.hash'));
  runs<ServerOptions>(command, program, async (output, options) => {
    const verdict = await (await fleetServer(program.tools, options)).call(AUDIT_ROUTES.verifyAudit, {});
    output.result(verdict, inWords(verdict));
    return verdict.ok ? EXIT.done : EXIT.verification;
  });
}

function inWords({ ok, events, subjects, seals, unsealed, last_seal, faults }: ServerAuditVerdict): string {
  const faulty = faults.map(({ subject, sequence, detail }) => [subject ?? 'seals', String(sequence), detail]);
  const counted = `Events: ${events}, chains: ${subjects}, seals: ${seals}, chains that went on since: ${unsealed}.\n`;
  const sealed = last_seal === null ? '' : `Last seal: ${last_seal.sequence} of ${last_seal.at}, ${last_seal.hash}\n`;
  const verdict = ok ? 'The record is as it was written.\n' : 'The record is not as it was written:\n';
  return `${verdict}${ok ? '' : table([['OF', 'NUMBER', 'WHAT'], ...faulty])}${counted}${sealed}`;
}
