import { VERBS } from '../../src/cli/host/verbs.ts';
import { SLOT_TABLE } from '../../src/core/boot.ts';
import { VERDICTS } from '../../src/core/boot-verdict.ts';
import { UPDATE_TABLE } from '../../src/core/update.ts';
import { EXIT } from '../../src/errors.ts';
import { MAINTENANCE } from '../../src/format/maintenance.ts';

/** The parts of the README that the code knows better than anybody who writes by hand. */

const SECTIONS: Readonly<Record<string, () => string>> = {
  update: () => diagram(UPDATE_TABLE),
  slot: () => diagram(SLOT_TABLE),
  maintenance: () => diagram(MAINTENANCE),
  verdicts: () => table(['verdict', 'what follows'], Object.entries(VERDICTS)),
  verbs: () => table(['', '`qx-update ...`', ''], verbRows()),
  exits: () =>
    table(
      ['exit code', 'means'],
      Object.entries(EXIT).map(([name, code]) => [String(code), MEANING[name as keyof typeof EXIT]]),
    ),
};

/** A group of verbs says what it is for in its first row only. */
const verbRows = (): string[][] =>
  Object.entries(VERBS).flatMap(([group, rows]) =>
    rows
      .flatMap((row) =>
        'verbs' in row ? row.verbs.map((verb) => ({ ...verb, name: `${row.name} ${verb.name}` })) : [row],
      )
      .map(({ name, summary }, i) => [i === 0 ? group : '', `\`${name}\``, summary]),
  );

const MEANING: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'done',
  other: 'anything that is not listed here',
  usage: 'wrong usage or configuration',
  nothing: 'nothing to do',
  rebootRequired: 'a reboot is required',
  policy: 'blocked by policy: a window, a drain, a release that failed here before',
  busy: 'busy: another update is under way',
  verification: 'verification failed: signature, hash, version, archive',
  noSpace: 'no space',
  unreachable: 'server unreachable',
  agentDown: 'the agent is not running',
};

type Transitions = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** A transition table as a Mermaid state diagram. */
function diagram(transitions: Transitions): string {
  const arrows = Object.entries(transitions).flatMap(([from, row]) =>
    Object.entries(row).map(([event, to]) => `  ${from} --> ${to}: ${event}`),
  );
  return ['```mermaid', 'stateDiagram-v2', ...arrows, '```'].join('\n');
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const MARK = /(<!-- generated: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g;

/** The README with every marked part made anew. @throws when a mark names a part that nobody makes */
export const withGeneratedParts = (readme: string): string =>
  readme.replace(MARK, (_, start: string, name: string, end: string) => {
    const make = SECTIONS[name];
    if (make === undefined) throw new Error(`README.md asks for ${name}, which is not generated`);
    return `${start}\n${make()}\n\n${end}`;
  });
