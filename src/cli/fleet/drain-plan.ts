import type { Command } from 'commander';
import type { DrainPlan } from '../../format/drain-plan.ts';
import { ACTIVE_STATES, type MaintenanceState } from '../../format/maintenance.ts';
import { MAINTENANCE_ROUTES } from '../../format/maintenance-routes.ts';
import { oneLine } from '../../format/text.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';
import { asName } from './values.ts';

export function addDrainPlan(commands: Command, program: FleetProgram): void {
  const command = withServer(commands.command('drain-plan'))
    .summary('what a drain of a host would do, without one')
    .description(
      'Says which VMs of a host would move where and what blocks, as the control plane sees it now, whether a place is free, and how long the drain will take, as past ones took. Changes nothing.',
    )
    .argument('<node>', 'name or id of the host', asName)
    .addHelpText(
      'after',
      examples('qx-fleet drain-plan qhci-01', "qx-fleet drain-plan qhci-01 --json | jq -r '.blocks[]?.reason'"),
    );
  asksFor(command, program, MAINTENANCE_ROUTES.maintenancePlan, {
    asked: (_options: ServerOptions, [nodeId = '']) => ({ params: { nodeId } }),
    told,
  });
}

const PLACES = { held: 'holds one', free: 'one is free now', taken: 'none is free' } as const;

function told(plan: DrainPlan): string {
  const { vms, blocks, waits_for } = plan;
  const overview = [
    ['host', `${plan.node_id}, group ${plan.group}`],
    ['maintenance', maintenance(plan.state)],
    ['place', waits_for === undefined ? PLACES[plan.place] : `${PLACES[plan.place]}: ${waits_for}`],
    ['drained by', plan.drain_by],
    ['drain', plan.message],
    ['expected', expected(plan)],
  ];
  const moves = (vms ?? []).map(({ vm, target_node, reason }) => [vm, target_node ?? '-', reason ?? '']);
  const stops = (blocks ?? []).map(({ vm, reason }) => [vm ?? 'the host', reason]);
  return [
    lines(overview),
    ...(moves.length === 0 ? [] : [lines([['VM', 'MOVES TO', 'WHY'], ...moves])]),
    ...(stops.length === 0 ? [] : [lines([['BLOCKS', 'WHY'], ...stops])]),
  ].join('\n');
}

const maintenance = (state: MaintenanceState): string =>
  state === 'none' || ACTIVE_STATES.includes(state) ? state : `none, the last one is ${state}`;

/** The server may be an older one, and what it passes on is not its own. */
const lines = (rows: readonly (readonly string[])[]): string => table(rows.map((row) => row.map(oneLine)));

function expected({ expected_seconds: seconds, past_drains: drains, past_drains_of: of }: DrainPlan): string {
  if (seconds === null) return 'not known: neither this host nor one of its group was drained yet';
  if (of === undefined) return 'at once';
  return `${duration(seconds)}, from ${drains} past ${drains === 1 ? 'drain' : 'drains'} of ${of === 'host' ? 'this host' : 'its group'}`;
}

/** As precisely as anybody can tell beforehand. */
function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
