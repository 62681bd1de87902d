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
  return [...source.matchAll(REFUSING)].map((match) => {
    const [code = '', , third = ''] = argumentsAt(source, match.index + match[0].length);
    const codes = [...code.matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, name = '']) => name);
    const hasNext = match[1] === undefined ? third !== '' : /\bnext\b|\boptions\b/.test(third);
    return { file, line: source.slice(0, match.index).split('\n').length, codes, hasNext };
  });
}

const CLOSES = new Map([
  ['(', ')'],
  ['{', '}'],
  ['[', ']'],
]);

const QUOTES = ["'", '"', '`'];

/** Of a call whose parenthesis has just been opened. What strings hold is no bracket and no comma. */
function argumentsAt(source: string, start: number): readonly string[] {
  const open: string[] = [')'];
  const found: string[] = [''];
  for (let at = start; open.length > 0 && at < source.length; at++) {
    const char = source[at] ?? '';
    const within = open.at(-1) ?? '';
    if (QUOTES.includes(within)) {
      if (char === '\\') at++;
      else if (char === within) open.pop();
      else if (within === '`' && source.startsWith('${', at)) {
        open.push('}');
        at++;
      }
    } else if (char === within) open.pop();
    else if (source.startsWith('//', at)) at = source.indexOf('\n', at);
    else if (QUOTES.includes(char)) open.push(char);
    else if (CLOSES.has(char)) open.push(CLOSES.get(char) ?? '');
    if (open.length === 1 && char === ',') found.push('');
    else if (open.length > 0) found[found.length - 1] = (found.at(-1) ?? '') + (source[at] ?? '');
  }
  return found.map((text) => text.trim());
}
