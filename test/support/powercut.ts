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
  const effect: Effect = async (target, name, call, args) => {
    if (power.isOff) throw new PowerCut(`no power for ${name}`);
    if (effects.length >= count) {
      power.isOff = true;
      if (options.torn === true) await tear(target, name, call, args);
      throw new PowerCut(`power cut before ${name}, effect ${effects.length + 1}`);
    }
    effects.push(name);
    return call.apply(target, args);
  };
  const look: Effect = async (target, name, call, args) => {
    if (power.isOff) throw new PowerCut(`no power for ${name}`);
    return call.apply(target, args);
  };
  return { ports: wrapped(ports, effect, look), effects, isOff: () => power.isOff };
}

/**
 * Ports that do their work, one effect after the other, and tell of each moment at which the power could go: before each
 * effect, or in the middle of it where half of its bytes may have reached the disk. What the machine holds at such a moment is
 * what a cut leaves, since without power nothing else is done. `moment` knows how many effects have happened.
 */
export function eachMoment<T extends object>(
  ports: T,
  moment: (count: number) => Promise<void>,
  options: CutOptions = {},
): T {
  const state = { count: 0, last: Promise.resolve() as Promise<unknown> };
  const inTurn: Effect = async (target, name, call, args) => {
    const isTorn = options.torn === true && (await tear(target, name, call, args));
    await moment(state.count);
    state.count += 1;
    return call.apply(target, isTorn && name === 'append' ? [secondHalf(args[0] as Uint8Array)] : args);
  };
  const effect: Effect = (...of) => {
    const done = state.last.then(() => inTurn(...of));
    state.last = done.catch(() => undefined);
    return done;
  };
  return wrapped(ports, effect, async (target, _name, call, args) => call.apply(target, args));
}

type Method = (...args: unknown[]) => unknown;
type Effect = (target: object, name: string, call: Method, args: unknown[]) => Promise<unknown>;

/** Ports whose effects, and whose other calls that take their time, go through these two; so do those of what they open. */
function wrapped<T extends object>(ports: T, effect: Effect, look: Effect): T {
  const wrap = <P extends object>(port: P): P =>
    new Proxy(port, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function' || typeof name === 'symbol') return member;
        const call = member as Method;
        if (EFFECTS.has(name)) {
          return async (...args: unknown[]) => {
            const result = await effect(target, name, call, args);
            return typeof result === 'object' && result !== null ? wrap(result) : result;
          };
        }
        if (RELEASES.has(name) || SYNCHRONOUS.has(name)) return call.bind(target);
        return (...args: unknown[]) => look(target, name, call, args);
      },
    });
  return Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, wrap(port as object)])) as T;
}

/** Answers whether half of the bytes of this effect are there now. */
async function tear(target: object, name: string, call: Method, args: unknown[]): Promise<boolean> {
  if (name === 'append') await call.call(target, firstHalf(args[0] as Uint8Array));
  if (name === 'write') await call.call(target, args[0], firstHalf(args[1] as Uint8Array));
  return name === 'append' || name === 'write';
}

const firstHalf = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, bytes.length >> 1);
const secondHalf = (bytes: Uint8Array): Uint8Array => bytes.subarray(bytes.length >> 1);
