/**
 * Cuts the power between any two effects. The real ports do the work on real files, so what a cut leaves behind is what a
 * machine would find; recovery then runs with fresh ports on the same folder.
 */

export class PowerCut extends Error {
  override readonly name = 'PowerCut';
}

/** Calls that change something outside, of every port. */
const EFFECTS: ReadonlySet<PropertyKey> = new Set([
  ...['writeAtomic', 'makeDirectory', 'openPart', 'duplicate', 'setMode', 'rename', 'linkAtomic', 'remove'],
  ...['append', 'sync', 'write', 'openForWriting', 'makeFileSystem', 'extractFromImage', 'extract'],
  ...['reboot', 'restart', 'post'],
]);

/** Give back what was opened: a machine without power has no open files either. */
const RELEASES: ReadonlySet<PropertyKey> = new Set(['close']);
const SYNCHRONOUS: ReadonlySet<PropertyKey> = new Set(['nowMs', 'monotonicMs', 'id', 'unit']);

export interface Cut<T> {
  readonly ports: T;
  /** Names of the effects that happened, in order. */
  readonly effects: readonly string[];
  isOff(): boolean;
}

export interface CutOptions {
  /** Half of the bytes of the effect that would have come next still reach the disk. */
  readonly torn?: boolean;
}

/** Ports that work until `count` effects have happened; from then on, every call fails. Infinity never cuts. */
export function cutAfter<T extends object>(ports: T, count: number, options: CutOptions = {}): Cut<T> {
  const effects: string[] = [];
  const power = { isOff: false };

  const effect = async (target: object, name: string, call: Method, args: unknown[]): Promise<unknown> => {
    if (power.isOff) throw new PowerCut(`no power for ${name}`);
    if (effects.length >= count) {
      power.isOff = true;
      if (options.torn === true) await tear(target, name, call, args);
      throw new PowerCut(`power cut before ${name}, effect ${effects.length + 1}`);
    }
    effects.push(name);
    const result = await call.apply(target, args);
    return typeof result === 'object' && result !== null ? wrap(result) : result;
  };

  const wrap = <P extends object>(port: P): P =>
    new Proxy(port, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function' || typeof name === 'symbol') return member;
        const call = member as Method;
        if (EFFECTS.has(name)) return (...args: unknown[]) => effect(target, name, call, args);
        if (RELEASES.has(name) || SYNCHRONOUS.has(name)) return call.bind(target);
        return async (...args: unknown[]) => {
          if (power.isOff) throw new PowerCut(`no power for ${name}`);
          return call.apply(target, args);
        };
      },
    });

  const wrapped = Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, wrap(port as object)]));
  return { ports: wrapped as T, effects, isOff: () => power.isOff };
}

type Method = (...args: unknown[]) => unknown;

async function tear(target: object, name: string, call: Method, args: unknown[]): Promise<void> {
  if (name === 'append') await call.call(target, half(args[0] as Uint8Array));
  if (name === 'write') await call.call(target, args[0], half(args[1] as Uint8Array));
}

const half = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, bytes.length >> 1);
