import { EXIT } from '../../errors.ts';
import { OPERATOR, type Verb, type VerbContext, type VerbGroup } from './verb.ts';

const EXITS = 'Works without the agent. Exit code 0 when it is printed, 5 when you are not root.';

const show: Verb = {
  name: 'show',
  summary: 'Print the token with which administrators reach this host over the network',
  notes: EXITS,
  examples: [
    'qx-update token show',
    'curl -k -H "Authorization: Bearer $(qx-update token show)" https://localhost:8443/api/v1/updates/status',
  ],
  run: async (context) => {
    const { showToken } = await import('../../agent/token.ts');
    return tell(context, await showToken((await context.records()).files));
  },
};

const rotate: Verb = {
  name: 'rotate',
  summary: 'Replace the token and print the new one: whoever has the old one is locked out',
  notes: EXITS,
  examples: ['qx-update token rotate', 'qx-update token rotate --json'],
  run: async (context) => {
    const { rotateToken } = await import('../../agent/token.ts');
    const { files, audit } = await context.records();
    const token = await rotateToken(files);
    await audit.record({ event: 'token_rotated', actor: OPERATOR });
    return tell(context, token);
  },
};

export const token: VerbGroup = {
  name: 'token',
  summary: 'Show or replace the API token of this host',
  notes: 'Whoever knows it may do everything that qx-update does, over the network.',
  verbs: [show, rotate],
};

function tell({ result, note, isTerminal }: VerbContext, secret: string): number {
  if (isTerminal)
    note('Whoever reads this may install, roll back and reboot this host: leave it in no log and no history.');
  result({ token: secret }, `${secret}\n`);
  return EXIT.done;
}
