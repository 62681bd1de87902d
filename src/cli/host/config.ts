import { resolve } from 'node:path';
import { EXIT, isCode } from '../../errors.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import { type Settings, type SettingsChange, settingsOf } from '../../format/settings-change.ts';
import { changeFrom, changeWithout, settingsText } from './settings.ts';
import { OPERATOR, type Verb, type VerbContext, type VerbGroup } from './verb.ts';

const show: Verb = {
  name: 'show',
  summary: 'Show the settings that the agent works by now, and where each comes from',
  notes: 'Exit code 0, or 10 when the agent does not run: qx-update config check reads the files without it.',
  examples: ['qx-update config show', "qx-update config show --json | jq -r '.channel'"],
  run: async ({ agent, result }) => {
    const settings = await agent.call(AGENT_ROUTES.config);
    result(settings, settingsText(settings));
    return EXIT.done;
  },
};

const check: Verb = {
  name: 'check',
  summary: 'Read the files as the agent would, and show what counts and where it comes from',
  notes: `Works without the agent. Without FILE it reads those of the host: /etc/limiquantix/node.yaml, node.d/*.yaml beside it, and
what was changed while the agent ran, in /quantix/limiquantix/node.yaml.
Exit code 0 when they are in order, 2 with the file and the key when they are not.`,
  examples: ['qx-update config check', 'qx-update config check ./node.yaml --json'],
  arguments: (command) => command.argument('[file]', 'this file instead of those of the host'),
  run: async ({ records, localRecords, result }, _options, [file]) => {
    const { loadConfig, loadConfigFile } = await import('../../agent/settings.ts');
    const { shownSettings } = await import('../../agent/source.ts');
    const ofHost = async () => {
      const { files } = await records();
      return shownSettings({ config: await loadConfig(files), files });
    };
    // A file alone belongs to no host, and to no fleet.
    const ofFile = async (path: string) => {
      const config = await loadConfigFile((await localRecords()).files, resolve(path));
      return settingsOf(config, { url: config.serverUrl, origin: null });
    };
    const settings = await (file === undefined ? ofHost() : ofFile(file));
    result(settings, settingsText(settings));
    return EXIT.done;
  },
};

const CHANGED = `The keys are those of node.yaml, below updates. The change counts at once and outlives a reboot; where the agent does not
run it is made on the host itself. Who is trusted and how the agent is reached is not changed this way.
Exit code 0 when it is done, 2 when a key or a value makes no sense, 6 while somebody else changes settings.`;

const set: Verb = {
  name: 'set',
  summary: 'Change settings',
  notes: `Values are YAML.\n${CHANGED}`,
  examples: [
    'qx-update config set channel=beta auto_apply=true',
    "qx-update config set 'mirrors=[https://updates.example.net]'",
    `qx-update config set 'maintenance_windows=[{start: "02:00", end: "05:00"}]'`,
  ],
  arguments: (command) => command.argument('<key=value...>', 'what to change'),
  run: async (context, _options, assignments) => changeTo(context, changeFrom(assignments)),
};

const unset: Verb = {
  name: 'unset',
  summary: 'Take changes back: the shipped files count again',
  notes: CHANGED,
  examples: ['qx-update config unset channel auto_apply'],
  arguments: (command) => command.argument('<key...>', 'what to take back'),
  run: (context, _options, keys) => changeTo(context, changeWithout(keys)),
};

export const config: VerbGroup = {
  name: 'config',
  summary: 'Show, check and change the settings of the agent',
  notes: 'Each of these has --help of its own.',
  verbs: [show, check, set, unset],
};

async function changeTo(context: VerbContext, change: SettingsChange): Promise<number> {
  const settings = await makeChange(context, change);
  context.result(settings, settingsText(settings));
  return EXIT.done;
}

/** Through the agent, or on the host itself where the agent does not run. Answers the settings that count from now on. */
const makeChange = (context: VerbContext, change: SettingsChange): Promise<Settings> =>
  throughAgent(context, change).catch((error: unknown) => {
    if (isCode(error, 'AGENT_DOWN')) return onHost(context, change);
    throw error;
  });

const throughAgent = ({ agent }: VerbContext, body: SettingsChange): Promise<Settings> =>
  agent.call(AGENT_ROUTES.changeConfig, { body });

async function onHost({ records, note }: VerbContext, change: SettingsChange): Promise<Settings> {
  const { changeSettings, settingFields } = await import('../../agent/settings.ts');
  const { shownSettings } = await import('../../agent/source.ts');
  const { files, audit } = await records();
  const settings = await shownSettings({ config: await changeSettings(files, change), files });
  await audit.record({ event: 'settings_changed', actor: OPERATOR, fields: settingFields(change) });
  note('The agent does not run: it takes the settings at its next start.');
  return settings;
}
