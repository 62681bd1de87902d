import type { Command, Option } from 'commander';

/**
 * What a shell may offer after the words of a command line, read from the tree of commands itself: a verb or an option that is
 * added to it is offered without anybody thinking of it.
 */

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Word {
  readonly word: string;
  readonly says: string;
}

interface Place {
  /** The commands that lead there: '', `apply`, `config set`. */
  readonly path: string;
  readonly words: readonly Word[];
  /** What may follow an option: its choices; nothing known means files. */
  readonly values: ReadonlyMap<string, readonly string[]>;
}

export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program, []);
  return SCRIPTS[shell](program.name(), places);
}

function placesOf(command: Command, inherited: readonly Option[]): readonly Place[] {
  const options = [...command.options.filter(({ hidden }) => !hidden), ...inherited];
  const words = [
    ...command.commands.map((inner) => ({ word: inner.name(), says: inner.summary() || inner.description() })),
    ...command.registeredArguments.flatMap(({ argChoices = [], description }) =>
      argChoices.map((word) => ({ word, says: description })),
    ),
    ...options.map(({ long, description }) => ({ word: long ?? '', says: description })),
    { word: '--help', says: 'display help for command' },
  ];
  const values = options
    .filter(({ required, optional }) => required || optional)
    .map(({ long, argChoices }) => [long ?? '', argChoices ?? []] as const);
  const path = pathOf(command).slice(1).join(' ');
  return [{ path, words, values: new Map(values) }, ...command.commands.flatMap((inner) => placesOf(inner, options))];
}

const pathOf = (command: Command): readonly string[] => [
  ...(command.parent === null ? [] : pathOf(command.parent)),
  command.name(),
];

const SCRIPTS: Readonly<Record<Shell, (program: string, places: readonly Place[]) => string>> = { bash, zsh, fish };

const functionName = (program: string): string => `_${program.replaceAll('-', '_')}`;
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const known = (places: readonly Place[]): string =>
  places
    .slice(1)
    .map(({ path }) => quoted(path))
    .join('|');
/** Options that a value follows: those with choices each on their own, and all others, which may name files. */
function optionsOf(places: readonly Place[]): { chosen: ReadonlyMap<string, readonly string[]>; free: string } {
  const all = new Map<string, readonly string[]>();
  for (const [option, choices] of places.flatMap(({ values }) => [...values])) {
    all.set(option, [...new Set([...(all.get(option) ?? []), ...choices])]);
  }
  const free = [...all].filter(([, choices]) => choices.length === 0).map(([option]) => option);
  return { chosen: new Map([...all].filter(([, choices]) => choices.length > 0)), free: free.join('|') };
}

const FINDS_PLACE = (places: readonly Place[], words: string, current: string, first: number): string =>
  `  for ((at = ${first}; at < ${current}; at++)); do
    word="\${${words}[at]}"
    case "\${place:+$place }$word" in
      ${known(places)}) place="\${place:+$place }$word" ;;
    esac
  done`;

function bash(program: string, places: readonly Place[]): string {
  const name = functionName(program);
  const rows = places.map(({ path, words }) => `    ${quoted(path)}) words=${quoted(list(words))} ;;`).join('\n');
  const { chosen, free } = optionsOf(places);
  const choices = [...chosen].map(
    ([option, words]) =>
      `    ${option}) mapfile -t COMPREPLY < <(compgen -W ${quoted(words.join(' '))} -- "$typed"); return ;;\n`,
  );
  return `# ${program} completion bash >/usr/share/bash-completion/completions/${program}
${name}() {
  local place='' word words='' at typed="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=()
${FINDS_PLACE(places, 'COMP_WORDS', 'COMP_CWORD', 1)}
  case "\${COMP_WORDS[COMP_CWORD - 1]}" in
${choices.join('')}    ${free}) return ;;
  esac
  case "$place" in
${rows}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$typed")
}
complete -o default -F ${name} ${program}
`;
}

const list = (words: readonly Word[]): string => words.map(({ word }) => word).join(' ');

function zsh(program: string, places: readonly Place[]): string {
  const name = functionName(program);
  const described = ({ word, says }: Word) => quoted(`${word}:${says.replaceAll('\n', ' ')}`);
  const { chosen, free } = optionsOf(places);
  const choices = [...chosen].map(
    ([option, words]) => `    ${option}) compadd -- ${words.map(quoted).join(' ')}; return ;;\n`,
  );
  const rows = places.map(({ path, words }) => `    ${quoted(path)}) words_=(${words.map(described).join(' ')}) ;;`);
  return `#compdef ${program}
# ${program} completion zsh >"\${fpath[1]}/_${program}"
${name}() {
  local place='' word at
  local -a words_
${FINDS_PLACE(places, 'words', 'CURRENT', 2)}
  case "\${words[CURRENT - 1]}" in
${choices.join('')}    ${free}) _files; return ;;
  esac
  case "$place" in
${rows.join('\n')}
  esac
  _describe '${program}' words_ || _files
}
if [ "$funcstack[1]" = "_${program}" ]; then ${name} "$@"; else compdef ${name} ${program}; fi
`;
}

function fish(program: string, places: readonly Place[]): string {
  const name = functionName(program);
  const lines = places.flatMap(({ path, words, values }) =>
    words.map(({ word, says }) => {
      const choices = values.get(word) ?? [];
      const takes = values.has(word) ? ` -r${choices.length === 0 ? '' : ` -f -a ${quoted(choices.join(' '))}`}` : '';
      const what = word.startsWith('--') ? `-l ${word.slice(2)}${takes}` : `-f -a ${quoted(word)}`;
      return `complete -c ${program} -n "test (${name}_place) = '${path}'" ${what} -d ${fishQuoted(says)}`;
    }),
  );
  return `# ${program} completion fish >~/.config/fish/completions/${program}.fish
function ${name}_place
  set -l place ''
  for word in (commandline -opc)[2..]
    switch (string trim -- "$place $word")
      case ${places
        .slice(1)
        .map(({ path }) => quoted(path))
        .join(' ')}
        set place (string trim -- "$place $word")
    end
  end
  echo "$place"
end
${lines.join('\n')}
`;
}

/** fish knows no other escapes between single quotes. */
const fishQuoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
