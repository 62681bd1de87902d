import { globSync, readFileSync } from 'node:fs';

/** Every place of the source where something is refused: which code, and whether it says what to do next. */

export interface RefusalSite {
  /** `src/agent/mark.ts`. */
  readonly file: string;
  readonly line: number;
  /** Empty where the code is that of another refusal, which is passed on. */
  readonly codes: readonly string[];
  readonly hasNext: boolean;
}

export function refusalSites(): readonly RefusalSite[] {
  return globSync('src/**/*.ts').toSorted().flatMap(sitesIn);
}

const REFUSING = /\b(?:new (QxError)|(?<!function )(refusal))\(/g;

function sitesIn(file: string): readonly RefusalSite[] {
  const source = readFileSync(file, 'utf8');
  const plain = masked(source);
  return [...source.matchAll(REFUSING)].map((match) => {
    const [code = '', , third = ''] = argumentsAt(source, plain, match.index + match[0].length);
    const codes = [...code.matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, name = '']) => name);
    const hasNext = match[1] === undefined ? third !== '' : /\bnext\b|\boptions\b/.test(third);
    return { file, line: source.slice(0, match.index).split('\n').length, codes, hasNext };
  });
}

const TEXT =
  /\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|\$\{(?:[^{}`]|`[^`]*`|\{[^{}]*\})*\}|[^`\\])*`/g;

/** What strings and comments hold is no bracket and no comma. */
const masked = (source: string): string => source.replaceAll(TEXT, (text) => ' '.repeat(text.length));

/** Of a call whose parenthesis has just been opened. */
function argumentsAt(source: string, code: string, start: number): readonly string[] {
  const ends: number[] = [];
  let depth = 1;
  for (let at = start; depth > 0 && at < code.length; at++) {
    const char = code[at] ?? '';
    if ('([{'.includes(char)) depth++;
    if (')]}'.includes(char)) depth--;
    if (depth === 0 || (depth === 1 && char === ',')) ends.push(at);
  }
  return ends.map((end, i) => source.slice(i === 0 ? start : (ends[i - 1] ?? start) + 1, end).trim());
}
