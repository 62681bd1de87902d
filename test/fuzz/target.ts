import { QxError } from '../../src/errors.ts';
import { cpuWatch } from '../support/cpu.ts';

/** A decoder under attack: what it is fed, how it may refuse, and what must hold of whatever it accepts. */
export interface Target {
  readonly name: string;
  /** By hand: what is valid, and the tricks of the attack list. Those above `maxBytes` are tried as they are, never changed. */
  readonly seeds: Readonly<Record<string, Uint8Array | string>>;
  /** What its grammar is made of. */
  readonly dictionary: readonly string[];
  /** Of the code of a QxError, or the name of another error: whatever else is thrown is a defect. */
  readonly refusals: RegExp;
  /** Changed inputs are cut to this; default 4096. */
  readonly maxBytes?: number;
  readonly maxCpuMs?: number;
  readonly maxGrowthBytes?: number;
  /** Puts right what almost every change spoils, such as a checksum, so that the rest is looked at too. */
  readonly repair?: (bytes: Uint8Array) => Uint8Array;
  /** Whose coverage counts, as a pattern of file URLs; default our own sources. */
  readonly covers?: RegExp;
  start(): Promise<Running>;
}

export interface Running {
  /** Throws what the decoder throws, and an AssertionError when its answer is wrong. A string says which of its answers it was. */
  readonly run: (bytes: Uint8Array) => unknown;
  readonly close?: () => Promise<void>;
}

/** For a decoder that needs nothing but its input. */
export const pure =
  (run: Running['run']): Target['start'] =>
  async () => ({ run });

const MAX_BYTES = 4096;
const MAX_CPU_MS = 3_000;
const MAX_GROWTH_BYTES = 128 << 20;
/** Nothing that is decoded waits for anybody, so whoever waits this long waits for ever. */
const MAX_WAIT_MS = 20_000;

export const maxBytesOf = (target: Target): number => target.maxBytes ?? MAX_BYTES;

export const bytesOf = (text: string | Uint8Array): Uint8Array =>
  typeof text === 'string' ? new TextEncoder().encode(text) : text;

/** What the contract of all decoders forbids. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export interface Outcome {
  /** Null when it was accepted. */
  readonly refusal: { readonly code: string; readonly message: string } | null;
  readonly answer: string;
  readonly cpuMs: number;
}

/** Feeds one input. @throws Violation when the decoder does not keep to its contract */
export async function attempt(target: Target, { run }: Running, bytes: Uint8Array): Promise<Outcome> {
  const tookMs = cpuWatch();
  const before = { peakKb: process.resourceUsage().maxRSS, globals: prototypes() };
  const { refusal, answer } = await outcomeOf(run, bytes);
  const cpuMs = tookMs();
  const grownBytes = (process.resourceUsage().maxRSS - before.peakKb) * 1024;
  if (refusal !== null && !target.refusals.test(refusal.code)) {
    throw new Violation(`${refusal.code}: ${refusal.message}`, { cause: refusal.error });
  }
  if (prototypes() !== before.globals) throw new Violation('a prototype that everything shares was changed');
  if (cpuMs > (target.maxCpuMs ?? MAX_CPU_MS)) throw new Violation(`took ${Math.round(cpuMs)} ms of CPU time`);
  if (grownBytes > (target.maxGrowthBytes ?? MAX_GROWTH_BYTES)) {
    throw new Violation(`the memory of the process grew by ${grownBytes >> 20} MiB`);
  }
  return { refusal, answer, cpuMs };
}

async function outcomeOf(run: Running['run'], bytes: Uint8Array) {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Violation('no answer')), MAX_WAIT_MS);
  try {
    const answer = await Promise.race([run(bytes), late.promise]);
    return { refusal: null, answer: typeof answer === 'string' ? answer : '' };
  } catch (error) {
    return { refusal: refusalOf(error), answer: '' };
  } finally {
    clearTimeout(timer);
  }
}

function refusalOf(error: unknown) {
  if (!(error instanceof Error)) return { code: 'no Error', message: String(error), error };
  return { code: error instanceof QxError ? error.code : error.name, message: error.message, error };
}

const prototypes = (): string =>
  [Object.prototype, Array.prototype, Function.prototype, String.prototype, Map.prototype]
    .map((prototype) => Reflect.ownKeys(prototype).length)
    .join();
