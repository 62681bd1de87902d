import type { AuditVerdict } from '../../agent/audit.ts';
import { EXIT } from '../../errors.ts';
import { type AuditEvent, eventsInWords } from '../../format/audit.ts';
import { table } from '../render.ts';
import { type Verb, wholeNumber } from './verb.ts';

const DEFAULT_LIMIT = 50;

export const log: Verb<{ readonly limit: number; readonly verify?: boolean }> = {
  name: 'log',
  summary: 'Show the audit log: every refusal and every change, newest last',
  notes: `Works without the agent. Every event holds the hash of the one before it: one that was edited or taken out is noticed, and
nothing behind it is shown.
Exit code 0; with --verify 7 when the chain is broken. 5 when you are not root.`,
  examples: ['qx-update log --limit 10', 'qx-update log --verify', "qx-update log --json | jq -r '.events[].event'"],
  arguments: (command) =>
    command
      .option('--limit <number>', 'the newest so many', wholeNumber, DEFAULT_LIMIT)
      .option('--verify', 'only say whether the chain holds'),
  run: async ({ records, result, note }, { limit, verify }) => {
    const { AUDIT_FOLDER, BEGIN_ANEW, readAudit } = await import('../../agent/audit.ts');
    const { events, verdict } = await readAudit((await records()).files);
    const shown = verify === true ? [] : events.slice(-limit);
    if (verdict.broken !== null)
      note(`The chain is broken: ${AUDIT_FOLDER}/${placeOf(verdict.broken)}\n  next: ${BEGIN_ANEW}`);
    result({ events: shown, verdict }, verify === true ? verdictText(verdict) : logText(shown));
    return verify === true && !verdict.ok ? EXIT.verification : EXIT.done;
  },
};

const placeOf = ({ segment, line, detail }: NonNullable<AuditVerdict['broken']>): string =>
  `${segment}${line === 0 ? '' : ` line ${line}`}: ${detail}`;

function verdictText({ ok, events, firstSeq, lastSeq }: AuditVerdict): string {
  const numbers = events === 0 ? '' : `, number ${firstSeq} to ${lastSeq}`;
  return ok
    ? `${eventsInWords(events)} in an unbroken chain${numbers}.\n`
    : `${eventsInWords(events)} before the chain breaks${numbers}.\n`;
}

const logText = (events: readonly AuditEvent[]): string =>
  events.length === 0 ? 'No event.\n' : table([['AT', 'EVENT', 'BY', 'WHAT'], ...events.map(logRow)]);

function logRow({ at, event, code, actor, detail, fields }: AuditEvent): string[] {
  const named = Object.entries(fields ?? {}).map(([name, value]) => `${name}=${value}`);
  const what = [...(code === undefined ? [] : [`[${code}]`]), ...(detail === undefined ? [] : [detail]), ...named];
  return [at, event.replaceAll('_', ' '), actor ?? '-', what.join(' ')];
}
