import type { ProbeResult } from '../core/health.ts';
import { writeDocument } from '../format/document.ts';
import { notedTrouble } from './boot-truth.ts';
import { type Host, instant, type Watch } from './host.ts';
import { healthGate, prober } from './probes.ts';
import { reboot, rebootRefusal } from './reboot.ts';

/** How this host is, outside of a trial. */

export interface HealthReport {
  readonly kind: 'health';
  readonly healthy: boolean;
  readonly probes: readonly ProbeResult[];
}

/** Every probe once. Changes nothing. */
export async function lookAtHealth(host: Host, { signal }: Watch): Promise<HealthReport> {
  const probes = await prober(host, null)(signal);
  return { kind: 'health', healthy: probes.every(({ ok, fatal }) => ok || !fatal), probes };
}

export type BootHealth =
  | { readonly kind: 'healthy'; readonly warnings: readonly ProbeResult[] }
  | { readonly kind: 'rebooting' | 'staying_up'; readonly failed: readonly ProbeResult[]; readonly reason: string };

/** There from the boot that was ended for it until one that is healthy. */
const UNHEALTHY_PATH = '/quantix/limiquantix/unhealthy-boot.json';

/**
 * Asked once after each ordinary boot. A host that is not healthy on a slot that was good is rebooted once, as any reboot is:
 * not against an inhibitor, nor outside of the windows. Then it stays up, for whoever comes to look at it.
 */
export async function ordinaryBoot(host: Host, { signal }: Watch): Promise<BootHealth> {
  const health = await healthGate(host, null, signal);
  if (health.verdict === 'healthy') {
    await host.files.remove(UNHEALTHY_PATH);
    return { kind: 'healthy', warnings: health.warnings };
  }
  const { failed } = health;
  const detail = failed.map((p) => `${p.name}: ${p.detail}`).join('; ');
  const reason = await whyNoReboot(host);
  await host.audit.record({ event: 'boot_unhealthy', code: 'UNHEALTHY', detail, fields: { stays_up: reason } });
  host.log.warn('boot_unhealthy', { detail, stays_up: reason });
  if (reason !== null) return { kind: 'staying_up', failed, reason };
  // On the disk before the reboot: without it a host that is never healthy would reboot for ever.
  await host.files.writeAtomic(UNHEALTHY_PATH, writeDocument({ format: 1, at: instant(host.clock), detail }), 0o600);
  await reboot(host, 'health gate');
  return { kind: 'rebooting', failed, reason: 'once, as the boot before was not' };
}

async function whyNoReboot(host: Host): Promise<string | null> {
  if ((await host.files.info(UNHEALTHY_PATH)) !== null) return 'it was rebooted for this before';
  // Something that was not mounted may be the next time; two disks that are the same stay what they are.
  const trouble = await notedTrouble(host);
  if (trouble !== null && trouble.code !== 'BOOT_MISSING') return `another boot would not mend it: ${trouble.message}`;
  return (await rebootRefusal(host))?.detail ?? null;
}
