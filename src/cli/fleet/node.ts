import { type Command, InvalidArgumentError } from 'commander';
import { INVITE_MAX_TTL_S, NODE_ROUTES, type NodeSummary } from '../../format/fleet-routes.ts';
import { table } from '../render.ts';
import { asDurationMs } from '../values.ts';
import { examples, type Output, runs } from '../verb.ts';
import { addInvites } from './invites.ts';
import { asksFor, fleetServer, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram, FleetTools } from './tools.ts';
import { asFingerprint, asLabel, asName } from './values.ts';

export function addNode(commands: Command, program: FleetProgram): void {
  const node = commands
    .command('node')
    .summary('the hosts of the fleet')
    .description('Who belongs to the fleet: invites hosts, lets them in, and puts them out.');
  addInvite(node, program);
  addInvites(node, program);
  addList(node, program);
  addApprove(node, program);
  addRevoke(node, program);
  addResolve(node, program);
}

interface InviteOptions extends ServerOptions {
  readonly group?: string;
  readonly label?: Readonly<Record<string, string>>;
  readonly vms: boolean;
  readonly approve?: boolean;
  readonly ttl?: number;
  readonly host?: string;
}

function addInvite(node: Command, program: FleetProgram): void {
  const command = withServer(node.command('invite'))
    .summary('make a join string for a new host')
    .description('Makes a join string, with which one host may enrol once under this name. It is shown this once.')
    .argument('<name>', 'how the host will be called', asName)
    .option('--group <name>', 'group that it is drained with (default: default)', asName)
    .option('--label <key=value>', 'what it shares with others, such as rack=r1; may be given again', asLabel)
    .option('--no-vms', 'nothing has to be drained before it restarts')
    .option('--approve', 'it waits until somebody approves the fingerprint of its key')
    .option('--ttl <duration>', 'how long the join string is good: at most 7d (default: 1h)', asTtl)
    .option('--host <host[:port]>', 'how it reaches the server (default: as in --server, or in the certificate)')
    .addHelpText(
      'after',
      examples(
        'qx-fleet node invite qhci-01 --label rack=r1',
        'qx-fleet node invite qhci-02 --group edge --approve --ttl 1d --host updates.example.org:9000',
        'qx-fleet node invite qhci-03 --json | jq -r .join',
      ),
    );
  runs<InviteOptions>(command, program, (output, options, [name = '']) => invite(program.tools, output, options, name));
}

function asTtl(text: string): number {
  const ms = asDurationMs(text);
  if (ms <= INVITE_MAX_TTL_S * 1000) return ms;
  throw new InvalidArgumentError('Longer than 7d.');
}

async function invite(tools: FleetTools, output: Output, options: InviteOptions, name: string): Promise<void> {
  const server = await fleetServer(tools, options);
  const host = options.host ?? (server.url === null ? undefined : hostOf(server.url));
  const body = {
    name,
    carries_vms: options.vms,
    needs_approval: options.approve === true,
    ...(options.group === undefined ? {} : { group: options.group }),
    ...(options.label === undefined ? {} : { labels: { ...options.label } }),
    ...(options.ttl === undefined ? {} : { ttl_seconds: options.ttl / 1000 }),
    ...(host === undefined ? {} : { host }),
  };
  const invited = await server.call(NODE_ROUTES.inviteNode, { body });
  const then = invited.needs_approval ? `, then waits for qx-fleet node approve ${name}` : '';
  output.result(invited, `${invited.join}\n`);
  if (!output.isJson) output.note(`${name} may enrol with it once, until ${invited.expires_at}${then}`);
}

/** A join string without a port means that of https. */
const hostOf = ({ protocol, host, port }: URL): string => (protocol === 'http:' && port === '' ? `${host}:80` : host);

function addList(node: Command, program: FleetProgram): void {
  const command = withServer(node.command('list'))
    .summary('the hosts that the server knows')
    .description('Lists the hosts of the fleet, also those that wait for approval and those that were put out.')
    .addHelpText('after', examples('qx-fleet node list', "qx-fleet node list --json | jq -r '.nodes[].node_id'"));
  asksFor(command, program, NODE_ROUTES.nodes, {
    named: 'nodes',
    told: (nodes) => (nodes.length === 0 ? 'No host.\n' : listed(nodes)),
  });
}

const listed = (nodes: readonly NodeSummary[]): string =>
  table([['NAME', 'STATE', 'GROUP', 'LABELS', 'VMS', 'CERTIFIED UNTIL', 'KEY'], ...nodes.map(row)]) +
  nodes.map(conflictOf).join('') +
  untold(nodes);

/** Where the server has announced its next TLS key: who would not believe it. */
function untold(nodes: readonly NodeSummary[]): string {
  const names = nodes.filter((node) => node.state === 'enrolled' && node.knows_next_key === false);
  if (names.length === 0)
    return nodes.some((node) => node.knows_next_key) ? '\nEvery host knows the next TLS key.\n' : '';
  const list = names.map(({ node_id }) => node_id).join(', ');
  return `\nThese do not know the next TLS key of the server yet; each learns it with its next certificate: ${list}\n`;
}

function conflictOf({ node_id, conflict }: NodeSummary): string {
  if (conflict === undefined) return '';
  const boots = conflict.boots.map(({ boot, since }) => [`  ${boot}`, `since ${since}`]);
  const head = `\nTwo machines speak as ${node_id}, since ${conflict.since}; both are refused. Boots that were seen:\n`;
  return `${head}${table(boots)}  next: qx-update identity show on both; then qx-fleet node resolve ${node_id} --reason TEXT\n`;
}

const row = (node: NodeSummary): string[] => [
  node.node_id,
  node.conflict === undefined ? node.state : `${node.state}, shared`,
  node.group,
  Object.entries(node.labels)
    .map(([label, value]) => `${label}=${value}`)
    .join(',') || '-',
  node.carries_vms ? 'yes' : 'no',
  node.certificate_not_after ?? '-',
  node.key_fingerprint,
];

interface ApproveOptions extends ServerOptions {
  readonly fingerprint: string;
}

function addApprove(node: Command, program: FleetProgram): void {
  const command = withServer(node.command('approve'))
    .summary('let a host in that waits for it')
    .description('Lets a host in, when its key has the fingerprint that the host itself shows.')
    .argument('<name>', 'name or id of the host', asName)
    .requiredOption(
      '--fingerprint <sha256>',
      'of its key, read from the host itself and not from this list',
      asFingerprint,
    )
    .addHelpText('after', examples('qx-fleet node approve qhci-02 --fingerprint 9f86d081884c7d659a2feaa0c55ad015...'));
  asksFor(command, program, NODE_ROUTES.approveNode, {
    asked: ({ fingerprint }: ApproveOptions, [node = '']) => ({
      params: { node },
      body: { key_fingerprint: fingerprint },
    }),
    told,
  });
}

interface RevokeOptions extends ServerOptions {
  readonly reason: string;
}

function addRevoke(node: Command, program: FleetProgram): void {
  const command = withServer(node.command('revoke'))
    .summary('put a host out of the fleet')
    .description('Puts a host out of the fleet, from its next request on and for good; it can be invited anew.')
    .argument('<name>', 'name or id of the host', asName)
    .requiredOption('--reason <text>', 'why, for the audit trail')
    .addHelpText('after', examples("qx-fleet node revoke qhci-02 --reason 'disk stolen'"));
  asksFor(command, program, NODE_ROUTES.revokeNode, {
    asked: ({ reason }: RevokeOptions, [node = '']) => ({ params: { node }, body: { reason } }),
    told,
  });
}

interface ResolveOptions extends ServerOptions {
  readonly reason: string;
  readonly boot?: string;
}

function addResolve(node: Command, program: FleetProgram): void {
  const command = withServer(node.command('resolve'))
    .summary('go on with a host that two machines spoke as')
    .description(
      `Says that one machine is left of two that spoke as one host: the other one was switched off, or enrolled anew. With --boot, that
machine is the host, and the others that were seen stay refused. What was granted before is granted anew. For admins.`,
    )
    .argument('<name>', 'name or id of the host', asName)
    .requiredOption('--reason <text>', 'why, for the audit trail')
    .option('--boot <id>', 'the one that is the host, as qx-update identity show prints it there', asBoot)
    .addHelpText(
      'after',
      examples(
        "qx-fleet node resolve qhci-02 --reason 'the template was switched off'",
        "qx-fleet node resolve qhci-02 --boot 5f3a9c01 --reason 'the other one is a copy'",
      ),
    );
  asksFor(command, program, NODE_ROUTES.resolveNode, {
    asked: ({ reason, boot }: ResolveOptions, [node = '']) => ({
      params: { node },
      body: { reason, ...(boot === undefined ? {} : { boot }) },
    }),
    told: ({ node_id }) => `${node_id} may go on\n`,
  });
}

function asBoot(text: string): string {
  if (/^[a-f0-9]{6,32}$/.test(text)) return text;
  throw new InvalidArgumentError('Not the beginning of a boot: 6 hexadecimal digits or more.');
}

const told = ({ node_id, state }: { readonly node_id: string; readonly state: string }): string =>
  `${node_id} is ${state}\n`;
