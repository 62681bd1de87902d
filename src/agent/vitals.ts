import type { ProbeResult } from '../core/health.ts';
import { hasDefaultRoute4, hasDefaultRoute6 } from '../format/proc-net.ts';
import { kernelTable } from './facts.ts';
import { type HookResult, runHooks } from './health-hooks.ts';
import type { Host } from './host.ts';

/** What holds on this host now, as facts that can be compared over a reboot. */
export interface Vitals {
  readonly facts: readonly string[];
  readonly hooks: readonly ProbeResult[];
}

const SERVICE = 'service ';
/** The gate itself runs in a service that is still starting, after all others. */
const RUNNING = ['/run/openrc/started', '/run/openrc/starting'];
const INTERFACES = '/sys/class/net';

export async function vitals(host: Host, signal?: AbortSignal): Promise<Vitals> {
  const hooks = await runHooks(host, signal);
  const services = (await Promise.all(RUNNING.map((folder) => host.files.list(folder)))).flat();
  return {
    facts: [
      ...services.map((name) => SERVICE + name),
      ...(await bridges(host)),
      ...(await routes(host)),
      ...hooks.flatMap(factsOf),
    ],
    hooks: hooks.map(({ probe }) => probe),
  };
}

const HOOK = 'hook ';
const factsOf = ({ probe, facts }: HookResult): readonly string[] => (probe.ok ? [HOOK + probe.name, ...facts] : facts);

async function bridges({ files }: Host): Promise<readonly string[]> {
  const facts: string[] = [];
  for (const name of await files.list(INTERFACES)) {
    if ((await files.info(`${INTERFACES}/${name}/bridge`))?.kind === 'directory') facts.push(`bridge ${name}`);
  }
  return facts;
}

async function routes(host: Host): Promise<readonly string[]> {
  return [
    ...(hasDefaultRoute4(await kernelTable(host, 'route')) ? ['default route (IPv4)'] : []),
    ...(hasDefaultRoute6(await kernelTable(host, 'ipv6_route')) ? ['default route (IPv6)'] : []),
  ];
}

/** What those vitals say of a host that had these facts before. Nothing is known to be broken by an update where there are none. */
export async function compared(
  host: Host,
  before: readonly string[] | null,
  { facts, hooks }: Vitals,
): Promise<readonly ProbeResult[]> {
  const hadHook = (name: string): boolean => before === null || before.includes(HOOK + name);
  const own = hooks.map((probe) => ({ ...probe, fatal: probe.fatal && hadHook(probe.name) }));
  if (before === null) return own;
  const missing = await missingOf(host, before, facts);
  const detail = missing.length === 0 ? 'as before' : `not as before the update: ${listed(missing)}`;
  return [...own, { name: 'baseline', ok: missing.length === 0, fatal: true, detail }];
}

async function missingOf({ files }: Host, before: readonly string[], now: readonly string[]): Promise<string[]> {
  const held = new Set(now);
  const missing: string[] = [];
  for (const fact of before) {
    // A hook speaks for itself. A service that the new image does not bring any more was taken out of it.
    if (held.has(fact) || fact.startsWith(HOOK)) continue;
    const script = fact.startsWith(SERVICE) ? `/etc/init.d/${fact.slice(SERVICE.length)}` : null;
    if (script === null || (await files.info(script)) !== null) missing.push(fact);
  }
  return missing;
}

const MAX_LISTED = 10;

const listed = (facts: readonly string[]): string =>
  facts.slice(0, MAX_LISTED).join(', ') + (facts.length > MAX_LISTED ? `, and ${facts.length - MAX_LISTED} more` : '');
