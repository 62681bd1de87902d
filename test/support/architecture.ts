import { posix } from 'node:path';
import type { StaticExport } from 'oxc-parser';
import { parseSync } from 'oxc-parser';

/** Path from the top of the repository (`src/core/boot.ts`) -> its text. */
export type Sources = ReadonlyMap<string, string>;

/** What a room may import, itself included only where it says so. A room that is not here may not exist. */
const below: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  format: ['errors', 'format'],
  core: ['errors', 'format', 'core'],
  ports: ['errors', 'format', 'core', 'ports'],
  delivery: ['errors', 'format', 'core', 'ports', 'delivery'],
  agent: ['errors', 'format', 'core', 'ports', 'delivery', 'agent'],
  server: ['errors', 'format', 'core', 'ports', 'delivery', 'server'],
  system: ['errors', 'format', 'core', 'ports', 'system'],
  cli: ['errors', 'format', 'core', 'ports', 'delivery', 'agent', 'server', 'cli'],
  main: ['errors', 'cli'],
};

/**
 * The two files that put the real system together with agent, server and delivery, and the process that fetches for the
 * agent, which is nothing but system.
 */
const composers = ['src/cli/serve.ts', 'src/cli/serve-releases.ts', 'src/cli/release.ts', 'src/cli/fetch.ts'];

const isDriver = (module: string): boolean =>
  /^(@fastify|@tus)\/|^(fastify|undici|tar|execa|pg)($|\/)|^node:sqlite$/.test(module);

/** Modules through which a program touches the machine. Rooms that get their effects as ports have no use for them. */
const touchesMachine = (module: string): boolean =>
  /^node:(fs|http|https|http2|net|tls|dgram|child_process|worker_threads)($|\/)/.test(module);

const browserSafe = ['errors', 'format', 'core'];
const effectFree = [...browserSafe, 'ports', 'delivery', 'agent', 'server'];
const maxLines = 300;

/** `src/core/boot.ts` -> `core`; `src/ports.ts` -> `ports`. */
const roomOf = (path: string): string => path.split('/')[1]?.replace(/\.tsx?$/, '') ?? '';

interface Import {
  readonly module: string;
  readonly isLazy: boolean;
}

const parse = (path: string, text: string) => {
  const parsed = parseSync(path, text);
  const fault = parsed.errors[0];
  if (fault) throw new Error(`${path}: ${fault.message}`);
  return parsed;
};

const reExports = (staticExports: readonly StaticExport[]) =>
  staticExports.flatMap(({ entries }) => entries.filter(({ moduleRequest }) => moduleRequest !== null));

function importsOf(path: string, text: string): Import[] {
  const { module } = parse(path, text);
  const eager = [
    ...module.staticImports.map(({ moduleRequest }) => moduleRequest.value),
    ...reExports(module.staticExports).flatMap(({ moduleRequest }) => moduleRequest?.value ?? []),
  ];
  const lazy = module.dynamicImports.map(({ moduleRequest }) =>
    text.slice(moduleRequest.start + 1, moduleRequest.end - 1),
  );
  return [
    ...eager.map((name) => ({ module: name, isLazy: false })),
    ...lazy.map((name) => ({ module: name, isLazy: true })),
  ];
}

const resolve = (from: string, module: string): string => posix.join(posix.dirname(from), module);

function checkInside(from: string, { module, isLazy }: Import): string[] {
  const to = resolve(from, module);
  const [room, target] = [roomOf(from), roomOf(to)];
  if (!to.startsWith('src/')) return [`${from} imports ${to}, which is no source of the product`];
  if (target === 'system' && composers.includes(from)) return [];
  if (!below[room]?.includes(target)) return [`${from} imports ${to}: ${room} may not import ${target}`];
  if (room === 'main' && target === 'cli' && !isLazy) return [`${from} imports ${to} before it is the program called`];
  return [];
}

function checkOutside(from: string, { module }: Import): string[] {
  const room = roomOf(from);
  if (browserSafe.includes(room) && module.startsWith('node:'))
    return [`${from} imports ${module}: ${room} runs in a browser too`];
  if (room !== 'system' && isDriver(module)) return [`${from} imports ${module}: drivers live in system`];
  if (module === 'node:child_process') return [`${from} imports ${module}: execa runs every child process`];
  if (effectFree.includes(room) && touchesMachine(module))
    return [`${from} imports ${module}: ${room} gets its effects as ports`];
  return [];
}

function checkImports(path: string, text: string): string[] {
  if (!(roomOf(path) in below)) return [`${path} is in no room of the house`];
  return importsOf(path, text).flatMap((one) =>
    one.module.startsWith('.') ? checkInside(path, one) : checkOutside(path, one),
  );
}

const declares = [
  'ImportDeclaration',
  'FunctionDeclaration',
  'ClassDeclaration',
  'TSTypeAliasDeclaration',
  'TSInterfaceDeclaration',
];

/** Statements at the top of a file may name things. They may not keep state, do work, or pass on other files' names. */
function checkTop(path: string, text: string): string[] {
  const { program, module } = parse(path, text);
  // A type may be passed on by name: it loads nothing, and gives a floor its word for what it takes from below.
  const passedOn = reExports(module.staticExports)
    .filter(({ isType, importName }) => !isType || importName.name === null)
    .map(() => `${path} exports another file's names: import from that file`);
  const others = program.body.flatMap((statement): string[] => {
    const inner = 'declaration' in statement && statement.declaration ? statement.declaration : statement;
    if (inner.type === 'VariableDeclaration') {
      const isState = inner.kind === 'let' || inner.kind === 'var';
      return isState && !inner.declare ? [`${path} keeps state in a module-level ${inner.kind}`] : [];
    }
    if (declares.includes(inner.type) || inner.type === 'ExportNamedDeclaration') return [];
    return roomOf(path) === 'main' ? [] : [`${path} does work when imported (${inner.type})`];
  });
  return [...passedOn, ...others];
}

function checkLength(path: string, text: string): string[] {
  const lines = text.split('\n').length - 1;
  return lines > maxLines ? [`${path} has ${lines} lines, more than ${maxLines}`] : [];
}

/** Import circles, each reported once, from the file where the walk met it. */
function findCircles(sources: Sources): string[] {
  const finished = new Set<string>();
  const circles: string[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) circles.push(`import circle: ${[...trail.slice(start), path].join(' -> ')}`);
    if (start >= 0 || finished.has(path)) return;
    for (const { module } of importsOf(path, sources.get(path) ?? '')) {
      if (module.startsWith('.')) walk(resolve(path, module), [...trail, path]);
    }
    finished.add(path);
  };
  for (const path of sources.keys()) walk(path, []);
  return circles;
}

/** Everything in `src/` that goes against the plan of the house, in words; empty when nothing does. */
export function violations(sources: Sources): string[] {
  const perFile = [...sources].flatMap(([path, text]) => [
    ...checkImports(path, text),
    ...checkTop(path, text),
    ...checkLength(path, text),
  ]);
  return [...perFile, ...findCircles(sources)];
}
