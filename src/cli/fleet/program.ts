import type { Command } from 'commander';
import { rootCommand, runCommand } from '../command.ts';
import { addCompletion } from '../completion-verb.ts';
import { schemaOf } from '../verb.ts';
import { addAudit } from './audit.ts';
import { addBudget } from './budget.ts';
import { addDrainPlan } from './drain-plan.ts';
import { addMaintenance } from './maintenance.ts';
import { addNode } from './node.ts';
import { addOperator } from './operator.ts';
import { addOrder } from './order.ts';
import { addPlace } from './place.ts';
import type { FleetTools } from './tools.ts';

const DESCRIPTION = 'The fleet of an update server, from the terminal: its hosts, and who may act on them.';
const WORKFLOW = `
A new host, step by step:
  qx-fleet operator add alice --role operator           (as root, on the server)
  export QX_SERVER=https://updates.example.org:9000 QX_FLEET_TOKEN=...
  qx-fleet node invite qhci-01 --label rack=r1
  qx-fleet node list

Hosts that are updated:
  qx-fleet drain-plan qhci-01
  qx-fleet maintenance list
  qx-fleet budget set group:default --percent 10
  qx-fleet place list
  qx-fleet order list

Exit codes: 0 done, 1 other, 2 usage, 5 refused by policy, 7 the audit trail was changed, 9 server unreachable.`;

const VERBS = [
  addNode,
  addOperator,
  addDrainPlan,
  addMaintenance,
  addPlace,
  addOrder,
  addBudget,
  addAudit,
  addCompletion,
] as const;

export async function runFleet(args: readonly string[], tools: FleetTools): Promise<number> {
  const outcome = { exitCode: 0 };
  const finish = (exitCode: number) => void Object.assign(outcome, { exitCode });
  const commands = rootCommand('qx-fleet', DESCRIPTION).addHelpText('after', WORKFLOW);
  commands.configureOutput({
    writeOut: (text) => tools.stdout.write(text),
    writeErr: (text) => tools.stderr.write(text),
  });
  for (const add of VERBS) add(commands, { name: 'qx-fleet', tools, finish });
  for (const group of commands.commands) {
    const schema = schemaOf('qx-fleet', group.name());
    for (const command of leavesOf(group)) command.option('--json', `print one JSON document (schema ${schema})`);
  }
  const exitCode = await runCommand(commands, args);
  return exitCode === 0 ? outcome.exitCode : exitCode;
}

const leavesOf = (command: Command): readonly Command[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
