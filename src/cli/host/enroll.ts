import type { Enrolment } from '../../agent/fleet/enrol.ts';
import { EXIT, QxError } from '../../errors.ts';
import { OPERATOR, type Verb, type VerbContext } from './verb.ts';

export const enroll: Verb<{ readonly again?: boolean }> = {
  name: 'enroll',
  summary: 'Make this host a member of a fleet, by the join string of qx-fleet node invite',
  notes: `Works without the agent, which needs no restart. The key of the host is made here and stays here. From then on the host asks
the fleet before it reboots, and fetches its releases there, unless somebody wrote another server_url into its settings.
JOIN may be - to read it from stdin, so that it is in no history and no list of processes. A join string counts once and for
one host; after a lost answer the same host may use it again. On a copied disk it takes the place of the identity of the original.
Exit code 0 when it is a member, 3 when it was one already, 5 refused or waiting for an operator (the agent goes on asking),
9 server unreachable.`,
  examples: [
    'qx-update enroll qx1.a1b2c3.SECRET.PIN.updates.example.org:9000',
    'qx-update enroll - < /root/join-string',
    'qx-update enroll --again qx1.d4e5f6.SECRET.PIN.updates.example.org:9000',
  ],
  arguments: (command) =>
    command
      .argument('<join>', 'the join string, or - for stdin')
      .option('--again', 'although it is a member: leave that fleet for this one'),
  run: async (context, { again = false }, [given = '']) => {
    const join = given === '-' ? await context.stdin() : given;
    const { enrol } = await import('../../agent/fleet/enrol.ts');
    const enrolment = await context.onHost((host) => enrol(host, join, { again }));
    if (enrolment.kind === 'pending') throw pending(enrolment);
    const { node_id, server, not_after } = enrolment.membership;
    const where = await fetchedFrom(context, server);
    context.result({ node_id, server, not_after }, `This host is ${node_id} in the fleet of ${server}, ${where}.\n`);
    return EXIT.done;
  },
};

export const leave: Verb = {
  name: 'leave',
  summary: 'Forget the fleet: this host stands alone again',
  notes: `Works without the agent. The key and the certificate of the host are removed, and its releases no longer come from there, unless
somebody wrote that server_url into its settings. The fleet goes on counting the host until an operator says
qx-fleet node revoke NODE --reason WHY.
Exit code 0 when it is done, 3 when it is in no fleet.`,
  examples: ['qx-update leave', 'qx-update leave --json'],
  run: async (context) => {
    const { leaveFleet } = await import('../../agent/fleet/enrol.ts');
    const { node_id, server } = await context.onHost((host) => leaveFleet(host, OPERATOR));
    const next = `there it counts until: qx-fleet node revoke ${node_id} --reason WHY`;
    const { releaseServer } = await import('../../agent/source.ts');
    const { loadConfig } = await import('../../agent/settings.ts');
    const { files } = await context.records();
    const { url } = await releaseServer({ config: await loadConfig(files), files });
    context.result(
      { node_id, server, server_url: url },
      `This host is no longer ${node_id} in the fleet of ${server}; ${next}\nIt fetches its releases from ${url} now.\n`,
    );
    return EXIT.done;
  },
};

const pending = ({ nodeId, keyFingerprint, server }: Extract<Enrolment, { kind: 'pending' }>): QxError =>
  new QxError('APPROVAL_PENDING', `${nodeId} waits for an operator of ${server}; its key is ${keyFingerprint}`, {
    next: `compare it there: qx-fleet node approve ${nodeId} --fingerprint ${keyFingerprint}; the agent goes on asking`,
  });

/** Where its releases come from, said as it is: what somebody wrote down is kept. */
async function fetchedFrom(context: VerbContext, server: string): Promise<string> {
  const { loadConfig } = await import('../../agent/settings.ts');
  const { serverUrl, origins } = await loadConfig((await context.records()).files);
  if (serverUrl === null || serverUrl === server) return 'and fetches its releases there';
  return `and fetches its releases from ${serverUrl} as before, the server_url of ${origins.get('server_url')}`;
}
