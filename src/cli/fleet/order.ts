import type { Command } from 'commander';
import { ORDER_ROUTES, type Order } from '../../format/order-routes.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';
import { asCount, asName } from './values.ts';

export function addOrder(commands: Command, program: FleetProgram): void {
  const order = commands
    .command('order')
    .summary('what the control plane was not told yet')
    .description(
      'Orders to the control plane that it has not taken yet. Each is sent again, once a minute, and those of one host in their order.',
    );
  addList(order, program);
  addDrop(order, program);
}

function addList(order: Command, program: FleetProgram): void {
  const command = withServer(order.command('list'))
    .summary('orders that wait, and why')
    .description('Lists the orders that the control plane has not taken yet, with what it answered the last time.')
    .addHelpText(
      'after',
      examples('qx-fleet order list', "qx-fleet order list --json | jq -r '.orders[] | [.node_id, .error] | @tsv'"),
    );
  asksFor(command, program, ORDER_ROUTES.orders, {
    told: ({ orders, count }) => (count === 0 ? 'The control plane has taken every order.\n' : listed(orders)),
  });
}

const listed = (orders: readonly Order[]): string =>
  table([['NAME', 'NUMBER', 'ORDER', 'SINCE', 'TRIES', 'WHY IT WAITS'], ...orders.map(row)]);

const row = ({ node_id, number, kind, created_at, attempts, error }: Order): string[] => [
  node_id,
  String(number),
  kind,
  created_at,
  String(attempts),
  error ?? 'not tried yet, or behind another one',
];

interface DropOptions extends ServerOptions {
  readonly reason: string;
}

const LARGEST = 999_999_999;

function addDrop(order: Command, program: FleetProgram): void {
  const command = withServer(order.command('drop'))
    .summary('give up an order that the control plane never takes')
    .description(
      `Gives up an order that the control plane refuses for ever, such as one about a host that it does not know any more. The next order of
this host is sent instead. Nothing is done in its place: what the order asked for, do in the control plane by hand. For admins.`,
    )
    .argument('<node>', 'name or id of the host', asName)
    .argument('<number>', 'of the order, as qx-fleet order list shows it', asCount(LARGEST))
    .requiredOption('--reason <text>', 'why, for the audit trail')
    .addHelpText('after', examples("qx-fleet order drop qhci-01 3 --reason 'the control plane was installed anew'"));
  asksFor(command, program, ORDER_ROUTES.dropOrder, {
    asked: ({ reason }: DropOptions, [node_id = '', number]) => ({ body: { node_id, number: Number(number), reason } }),
    told: ({ node_id, number, kind }) => `Order ${number} of ${node_id}, to ${kind}, is given up\n`,
  });
}
