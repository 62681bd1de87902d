import { EXIT } from '../../errors.ts';
import { table } from '../render.ts';
import { asReason } from '../values.ts';
import { OPERATOR, type Verb, type VerbContext, type VerbGroup } from './verb.ts';

const EXITS = 'Works without the agent. Exit code 0 when it is done, 5 when you are not root';

const STATES = {
  mounted: 'mounted, and of this host',
  missing: 'NOT MOUNTED',
  foreign: 'OF ANOTHER INSTALLATION',
  unmarked: 'not marked yet',
} as const;

const list: Verb = {
  name: 'list',
  summary: 'Print what this host keeps its state on, and whether it is mounted',
  notes: `${EXITS}, 1 when something is missing.`,
  examples: ['qx-update mounts list', 'qx-update mounts list --json'],
  run: async (context) => {
    const { mountStates } = await import('../../agent/mounts.ts');
    const mounts = await mountStates(await machineOf(context));
    const rows = mounts.map(({ path, state }) => [path, STATES[state]]);
    context.result({ mounts }, table([['PATH', 'STATE'], ...rows]));
    return mounts.some(({ state }) => state === 'missing' || state === 'foreign') ? EXIT.other : EXIT.done;
  },
};

const accept: Verb<{ readonly reason: string }> = {
  name: 'accept',
  summary: "Say that what is mounted there now is this host's, after an exchange of its disk",
  notes: `${EXITS}, 1 when nothing that lasts is mounted there.
The agent needs no restart. What was kept on the old disk is gone: after /quantix the host has no history, no floor, and another
identity; its fleet wants it enrolled again.`,
  examples: ["qx-update mounts accept /data --reason 'new data disk'"],
  arguments: (command) =>
    command
      .argument('<path>', '/boot, /quantix, /data, or a volume of the settings')
      .requiredOption('--reason <text>', 'why, for the audit log', asReason),
  run: async (context, { reason }, [path = '']) => {
    const { acceptMount } = await import('../../agent/installation.ts');
    await acceptMount(await machineOf(context), path, reason, OPERATOR);
    context.result({ accepted: path }, `What is mounted on ${path} belongs to this host.\n`);
    return EXIT.done;
  },
};

/** Settings lie on /quantix too: without them there is no volume to be asked for. */
async function machineOf(context: VerbContext) {
  const { loadConfig } = await import('../../agent/settings.ts');
  const records = await context.records({ isLost: true });
  return { ...records, config: await loadConfig(records.files).catch(() => undefined) };
}

export const mounts: VerbGroup = {
  name: 'mounts',
  summary: 'Show what this host keeps its state on, or accept a new disk of it',
  notes: 'A host never begins anew what it keeps, because something was not mounted.',
  verbs: [list, accept],
};
