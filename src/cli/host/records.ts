import { EXIT } from '../../errors.ts';
import type { HistoryResponse, VerifyResponse } from '../../format/agent-documents.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import { table } from '../render.ts';
import { type Verb, wholeNumber } from './verb.ts';

/** What the agent says of the past, and of what is really there. */

type HistoryEntry = HistoryResponse['entries'][number];

export const history: Verb<{ readonly limit?: number }> = {
  name: 'history',
  summary: 'Show how the updates of this host ended, newest first',
  notes: 'Exit code 0 also when there was none, 10 when the agent does not run. The last 100 are kept.',
  examples: ['qx-update history --limit 5', "qx-update history --json | jq -r '.entries[].result'"],
  arguments: (command) => command.option('--limit <number>', 'no more than so many', wholeNumber),
  run: async ({ agent, result }, { limit }) => {
    const entries = (await agent.call(AGENT_ROUTES.history)).entries.slice(0, limit);
    result({ entries }, entries.length === 0 ? 'No update has ended on this host.\n' : historyText(entries));
    return EXIT.done;
  },
};

const historyText = (entries: readonly HistoryEntry[]): string =>
  table([['FINISHED', 'FROM -> TO', 'RESULT', 'DOWNLOAD', 'INSTALL', 'REBOOT', 'WHY'], ...entries.map(historyRow)]);

function historyRow({ finished_at, previous_version, version, result, code, detail, timings }: HistoryEntry): string[] {
  const { download_ms, apply_ms, reboot_ms } = timings ?? {};
  return [
    finished_at,
    `${previous_version} -> ${version}`,
    result.replaceAll('_', ' '),
    ...[download_ms, apply_ms, reboot_ms].map(seconds),
    code === undefined ? '' : `${detail} [${code}]`,
  ];
}

const seconds = (ms: number | undefined): string => (ms === undefined ? '-' : `${(ms / 1000).toFixed(1)} s`);

/** Whole slots are read back from a medium that may be slow. */
const VERIFY_TIMEOUT_MS = 1_800_000;

export const verify: Verb = {
  name: 'verify',
  summary: 'Read back what was installed and hold it against what was signed',
  notes: `Reads both slots past every cache, which takes a while, the components and the audit log. Changes nothing; says how to
repair what differs.
Exit code 0 when nothing differs, 7 when something does, 10 when the agent does not run.`,
  examples: ['qx-update verify', 'qx-update verify --json | jq \'.checked[] | select(.result != "ok")\''],
  run: async ({ agent, result }) => {
    const found = await agent.call(AGENT_ROUTES.verify, { timeoutMs: VERIFY_TIMEOUT_MS });
    result(found, verifyText(found));
    return found.ok ? EXIT.done : EXIT.verification;
  },
};

const verifyText = ({ checked }: VerifyResponse): string =>
  table(checked.map(({ what, result, detail }) => [what, result, detail]));
