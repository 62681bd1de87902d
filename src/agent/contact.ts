import type { Contact } from '../core/contact.ts';
import { BUNDLE_URL } from '../delivery/offline.ts';
import { discard } from '../delivery/source.ts';
import { isCode } from '../errors.ts';
import { answersArp, answersNeighbour, defaultGateways4, defaultGateways6, type Gateway } from '../format/proc-net.ts';
import { kernelTable } from './facts.ts';
import type { Host } from './host.ts';
import { releaseSource } from './source.ts';

/** Whether anybody out there answers this host. */

const LIMITS = {
  maxBytes: 64 << 10,
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 5_000,
  minBytesPerWindow: 1,
  windowMs: 5_000,
};

export async function contactNow(host: Host): Promise<Contact> {
  // In this order: what is sent to a server makes the kernel ask for the gateway.
  if (await serverAnswers(host)) return { answered: 'server', imageMayBeWhy: true };
  const gateways = await gatewaysNow(host);
  if (gateways.some(({ answers }) => answers)) return { answered: 'gateway', imageMayBeWhy: true };
  const isKnown = gateways.every(({ answers }) => answers !== null);
  const carriers = await Promise.all(gateways.map(({ name }) => hasCarrier(host, name)));
  return { answered: null, imageMayBeWhy: isKnown && (gateways.length === 0 || carriers.includes(true)) };
}

/** The ways out of this host, and whether who is at their other end answers; null when nobody can tell. */
async function gatewaysNow(host: Host): Promise<readonly (Gateway & { readonly answers: boolean | null })[]> {
  const gateways4 = defaultGateways4(await kernelTable(host, 'route'));
  const gateways6 = defaultGateways6(await kernelTable(host, 'ipv6_route'));
  const arp = await kernelTable(host, 'arp');
  const neighbours = gateways6.length === 0 ? '' : await neighbours6(host);
  return [
    ...gateways4.map((gateway) => ({ ...gateway, answers: answersArp(arp, gateway) })),
    ...gateways6.map((gateway) => ({
      ...gateway,
      answers: neighbours === null ? null : answersNeighbour(neighbours, gateway),
    })),
  ];
}

/** Null where `ip` cannot say. */
async function neighbours6({ process }: Host): Promise<string | null> {
  const result = await process.run(['ip', '-6', 'neigh'], { timeoutMs: 5_000 }).catch(() => null);
  return result?.exitCode === 0 ? result.stdout : null;
}

/** Any answer is one: a server that is not well is reached all the same. */
async function serverAnswers(host: Host): Promise<boolean> {
  const { http, config } = host;
  // The bundle that stands in for the server is on this host.
  if (config.serverUrl === BUNDLE_URL) return false;
  for (const base of (await releaseSource(host)).bases) {
    try {
      await discard(await http.get(`${base}/health`, { limits: LIMITS }));
      return true;
    } catch (error) {
      if (!isCode(error, 'SERVER_UNREACHABLE', 'SERVER_KEY_WRONG')) throw error;
    }
  }
  return false;
}

async function hasCarrier({ files }: Host, name: string): Promise<boolean> {
  // An interface that is down refuses to say.
  const bytes = await files.read(`/sys/class/net/${name}/carrier`, 16).catch(() => null);
  return bytes === null || new TextDecoder().decode(bytes).trim() !== '0';
}
