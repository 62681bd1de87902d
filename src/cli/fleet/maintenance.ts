import type { Command } from 'commander';
import type { MaintenanceStatus } from '../../format/maintenance.ts';
import { MAINTENANCE_ROUTES } from '../../format/maintenance-routes.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';
import { asName } from './values.ts';

export function addMaintenance(commands: Command, program: FleetProgram): void {
  const maintenance = commands
    .command('maintenance')
    .summary('hosts that are emptied, updated and rebooted')
    .description(
      'Hosts in maintenance: which are being emptied, which wait for a place, which failed and still hold one.',
    );
  addList(maintenance, program);
  addShow(maintenance, program);
  addCancel(maintenance, program);
  addForce(maintenance, program);
}

function addList(maintenance: Command, program: FleetProgram): void {
  const command = withServer(maintenance.command('list'))
    .summary('the hosts in maintenance')
    .description(
      'Lists hosts in maintenance, and those that failed and hold their place until somebody has looked after them.',
    )
    .addHelpText(
      'after',
      examples(
        'qx-fleet maintenance list',
        `qx-fleet maintenance list --json | jq -r '.nodes[] | select(.state == "failed") | .node_id'`,
      ),
    );
  asksFor(command, program, MAINTENANCE_ROUTES.listMaintenance, {
    told: ({ nodes, count }) => (count === 0 ? 'No host is in maintenance.\n' : listed(nodes)),
  });
}

const listed = (nodes: readonly MaintenanceStatus[]): string =>
  table([['NAME', 'STATE', 'TO', 'GROUP', 'PLACE', 'VMS LEFT', 'SINCE', 'MESSAGE'], ...nodes.map(row)]);

const row = (status: MaintenanceStatus): string[] => [
  status.node_id,
  status.state,
  status.target_version ?? '-',
  status.group,
  status.holds_place ? 'yes' : 'no',
  status.state === 'requested' ? '-' : String(status.vms_remaining),
  status.draining_started ?? status.requested_at ?? '-',
  status.message,
];

function addShow(maintenance: Command, program: FleetProgram): void {
  const command = withServer(maintenance.command('show'))
    .summary('where one host stands')
    .description(
      'Shows where the maintenance of one host stands, with the VMs that are still on it and those that failed to move.',
    )
    .argument('<node>', 'name or id of the host, or id of a maintenance', asName)
    .addHelpText('after', examples('qx-fleet maintenance show qhci-01', 'qx-fleet maintenance show qhci-01 --json'));
  asksFor(command, program, MAINTENANCE_ROUTES.maintenanceStatus, {
    asked: (_options: ServerOptions, [nodeId = '']) => ({ params: { nodeId } }),
    told: shown,
  });
}

function shown(status: MaintenanceStatus): string {
  const lines: readonly (readonly [string, string | undefined])[] = [
    ['host', `${status.node_id}, group ${status.group}`],
    ['state', `${status.state}: ${status.message}`],
    ['update', status.target_version === null ? undefined : `${status.update_type} to ${status.target_version}`],
    ['conflict', status.conflict],
    ['place', status.holds_place ? 'holds one' : 'holds none'],
    ['drained by', status.drain_by],
    ['requested', status.requested_at],
    ['draining', status.draining_started],
    ['ready', status.ready_at],
    ['granted until', status.expires_at],
    ['began', status.update_started],
    ['over', status.completed_at],
    ['VMs left', status.remaining_vms.length === 0 ? undefined : status.remaining_vms.join(', ')],
    ...status.failed_vms.map(({ vm, reason }) => ['VM stuck', `${vm}: ${reason ?? 'no reason given'}`] as const),
  ];
  return table(lines.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

const told = ({ node_id, state, message, holds_place }: MaintenanceStatus): string =>
  `${node_id} is ${state}, and holds ${holds_place ? 'its' : 'no'} place: ${message}\n`;

function addCancel(maintenance: Command, program: FleetProgram): void {
  const command = withServer(maintenance.command('cancel'))
    .summary('give up what has not begun, or the place of a host that failed')
    .description(
      'Gives up a maintenance that has not begun to update; the host may carry VMs again. Of a host that failed it gives the place back: you say that you have looked after it.',
    )
    .argument('<node>', 'name or id of the host', asName)
    .addHelpText('after', examples('qx-fleet maintenance cancel qhci-01'));
  asksFor(command, program, MAINTENANCE_ROUTES.cancelMaintenance, {
    asked: (_options: ServerOptions, [nodeId = '']) => ({ params: { nodeId } }),
    told,
  });
}

interface ForceOptions extends ServerOptions {
  readonly reason: string;
}

function addForce(maintenance: Command, program: FleetProgram): void {
  const command = withServer(maintenance.command('force'))
    .summary('do not wait until the host is empty')
    .description('Lets a host go on that is not empty: its VMs go down with it. It still needs a place. For admins.')
    .argument('<node>', 'name or id of the host', asName)
    .requiredOption('--reason <text>', 'why, for the audit trail')
    .addHelpText('after', examples("qx-fleet maintenance force qhci-01 --reason 'water in the rack'"));
  asksFor(command, program, MAINTENANCE_ROUTES.forceMaintenance, {
    asked: ({ reason }: ForceOptions, [nodeId = '']) => ({ params: { nodeId }, body: { reason } }),
    told,
  });
}
