import { type Command, InvalidArgumentError } from 'commander';
import { HOLDER_PATTERN, PLACE_ROUTES, type Place } from '../../format/place-routes.ts';
import { table } from '../render.ts';
import { examples } from '../verb.ts';
import { asksFor, type ServerOptions, withServer } from './server.ts';
import type { FleetProgram } from './tools.ts';

export function addPlace(commands: Command, program: FleetProgram): void {
  const place = commands
    .command('place')
    .summary('who may be away at this moment')
    .description('The places that hosts hold while they are away, and the way to give one back whose holder is dead.');
  addList(place, program);
  addRelease(place, program);
}

function addList(place: Command, program: FleetProgram): void {
  const command = withServer(place.command('list'))
    .summary('who holds a place, since when, and when it was last heard of')
    .description(
      'Lists who holds a place, since when, and when it was last heard of; whoever has it longest comes first.',
    )
    .addHelpText(
      'after',
      examples('qx-fleet place list', "qx-fleet place list --json | jq -r '.places[] | [.holder, .last_heard] | @tsv'"),
    );
  asksFor(command, program, PLACE_ROUTES.places, {
    told: ({ places, count }) => (count === 0 ? 'Nobody holds a place.\n' : listed(places)),
  });
}

const listed = (places: readonly Place[]): string =>
  table([['HOLDER', 'GROUP', 'STATE', 'SINCE', 'LAST HEARD', 'ASKED BY', 'COUNTS IN'], ...places.map(row)]);

const row = ({ holder, group, state, since, last_heard, asked_by, domains }: Place): string[] => [
  holder,
  group,
  state ?? '-',
  since,
  last_heard ?? '-',
  asked_by ?? '-',
  domains.join(', '),
];

interface ReleaseOptions extends ServerOptions {
  readonly reason: string;
}

function addRelease(place: Command, program: FleetProgram): void {
  const command = withServer(place.command('release'))
    .summary('give back the place of a host that does not do so itself')
    .description(
      'Gives back the place of a host that is dead, whatever it had begun; the next one may go. See to its VMs first: when the host is only silent, it may still reboot. For admins.',
    )
    .argument('<holder>', 'as qx-fleet place list shows it', asHolder)
    .requiredOption('--reason <text>', 'why, for the audit trail')
    .addHelpText(
      'after',
      examples(
        "qx-fleet place release qhci-01 --reason 'its mainboard is broken'",
        "qx-fleet place release fleetlock:default/4efcd1bbe7cf --reason 'scrapped in May'",
      ),
    );
  asksFor(command, program, PLACE_ROUTES.releasePlace, {
    asked: ({ reason }: ReleaseOptions, [holder = '']) => ({ body: { holder, reason } }),
    told: ({ holder }) => `${holder} holds no place any more\n`,
  });
}

const HOLDER = new RegExp(HOLDER_PATTERN);

function asHolder(text: string): string {
  if (HOLDER.test(text)) return text;
  throw new InvalidArgumentError('Not like qhci-01 or fleetlock:default/ID.');
}
