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
  addAccept(audit, program);
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
hashes; where chains end is sealed every minute, in a chain of its own. Exit code 7 when one is broken; once somebody has looked into
it, qx-fleet audit accept takes note of that, and only what is found later counts. For admins.`,
    )
    .addHelpText('after', examples('qx-fleet audit verify', 'qx-fleet audit verify --json | jq .last_seal.hash'));
  runs<ServerOptions>(command, program, async (output, options) => {
    const verdict = await (await fleetServer(program.tools, options)).call(AUDIT_ROUTES.verifyAudit, {});
    output.result(verdict, inWords(verdict));
    return verdict.ok ? EXIT.done : EXIT.verification;
  });
}

interface AcceptOptions extends ServerOptions {
  readonly reason: string;
}

function addAccept(audit: Command, program: FleetProgram): void {
  const command = withServer(audit.command('accept'))
    .summary('say that what is wrong with the record was looked into')
    .description(
      `Notes, in the record itself, that you have looked into what qx-fleet audit verify shows now. Nothing is mended by it; from here on
verify tells what is found besides. For admins.`,
    )
    .requiredOption('--reason <text>', 'what it was, for the audit trail')
    .addHelpText('after', examples("qx-fleet audit accept --reason 'restored from the backup of Monday'"));
  asksFor(command, program, AUDIT_ROUTES.acceptAudit, {
    asked: ({ reason }: AcceptOptions) => ({ body: { reason } }),
    told: ({ faults }) =>
      `Noted as looked into: ${faults.length}. What else is wrong, if anything: qx-fleet audit verify\n`,
  });
}

function inWords({ ok, events, subjects, seals, unsealed, accepted, last_seal, faults }: ServerAuditVerdict): string {
  const faulty = faults.map(({ subject, sequence, detail }) => [subject ?? 'seals', String(sequence), detail]);
  const known = accepted === 0 ? '' : `, faults that were looked into: ${accepted}`;
  const counted = `Events: ${events}, chains: ${subjects}, seals: ${seals}, chains that went on since: ${unsealed}${known}.\n`;
  const sealed = last_seal === null ? '' : `Last seal: ${last_seal.sequence} of ${last_seal.at}, ${last_seal.hash}\n`;
  const verdict = ok ? 'The record is as it was written.\n' : 'The record is not as it was written:\n';
  return `${verdict}${ok ? '' : table([['OF', 'NUMBER', 'WHAT'], ...faulty])}${counted}${sealed}`;
}
