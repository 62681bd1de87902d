import { Gauge, Registry } from 'prom-client';
import { SLOTS } from '../format/grubenv.ts';
import type { History } from '../format/history.ts';
import type { CertificateState } from '../ports/serving.ts';
import { currentBoot } from './bootenv.ts';
import { situation } from './facts.ts';
import { loadHistory } from './history.ts';
import type { Host } from './host.ts';

/** This host's metrics for Prometheus, made anew from what is on its disk each time they are asked for. */

export async function metricsText(host: Host, certificate: CertificateState | null): Promise<string> {
  const registry = new Registry();
  const [{ facts, journal, memory }, boot, history] = await Promise.all([
    situation(host),
    currentBoot(host),
    loadHistory(host),
  ]);
  const gauge = <L extends string>(name: string, help: string, values: readonly Value<L>[]): void => {
    const labelNames = Object.keys(values[0]?.labels ?? {}) as L[];
    const metric = new Gauge({ name, help, labelNames, registers: [registry] });
    for (const { labels, value } of values) metric.set(labels, value);
  };
  lastUpdate(history, gauge);
  const info = { version: facts.currentVersion, os_version: facts.osVersion, channel: host.config.channel };
  gauge('qx_host_info', 'What this host runs', [one(info)]);
  gauge(
    'qx_component_info',
    'Installed components',
    [...facts.components].map(([name, version]) => one({ name, version })),
  );
  gauge('qx_update_phase', 'Phase of the update that is under way, or of the last one', [
    one({ phase: journal?.phase ?? 'idle' }),
  ]);
  gauge('qx_update_held', '1 while updates are on hold', [
    { labels: {}, value: Number((memory.held ?? null) !== null) },
  ]);
  gauge('qx_bad_releases', 'Releases that failed on this host', [{ labels: {}, value: memory.bad.length }]);
  gauge(
    'qx_slot_ok',
    '1 when the slot may boot; absent while the boot environment cannot be read',
    SLOTS.flatMap((slot) => (boot === null ? [] : [{ labels: { slot }, value: Number(boot[slot].ok) }])),
  );
  gauge(
    'qx_certificate_not_after_seconds',
    'When the certificate of the listener on the network is over, in seconds since 1970',
    certificate?.notAfterMs == null ? [] : [{ labels: {}, value: certificate.notAfterMs / 1000 }],
  );
  return registry.metrics();
}

interface Value<L extends string> {
  readonly labels: Readonly<Record<L, string>>;
  readonly value: number;
}

const one = <L extends string>(labels: Readonly<Record<L, string>>): Value<L> => ({ labels, value: 1 });

type SetGauge = (name: string, help: string, values: readonly Value<never>[]) => void;

/** The names that the fleet's dashboards have always had. */
function lastUpdate({ entries, totals }: History, gauge: SetGauge): void {
  const last = entries.findLast(({ result }) => result === 'complete')?.timings;
  const seconds = (ms: number | undefined) => (ms === undefined ? [] : [{ labels: {}, value: ms / 1000 }]);
  gauge('update_download_seconds', 'Time to download the last complete update', seconds(last?.download_ms));
  gauge('update_apply_seconds', 'Time to write the last complete update to this host', seconds(last?.apply_ms));
  gauge(
    'update_reboot_seconds',
    'Time from the reboot into the last complete update to healthy',
    seconds(last?.reboot_ms),
  );
  const count = (value: number) => [{ labels: {}, value }];
  const { taken_back = 0 } = totals;
  gauge(
    'update_rollback_count',
    'Updates that this host rolled back by itself',
    count(totals.rolled_back - taken_back),
  );
  const all = totals.complete + totals.rolled_back + totals.failed;
  gauge(
    'update_success_rate',
    'Part of the updates of this host that went well',
    all === 0 ? [] : count(totals.complete / all),
  );
  const { complete, rolled_back, failed } = totals;
  const ended = Object.entries({ complete, rolled_back, failed }).map(([result, value]) => ({
    labels: { result },
    value,
  }));
  gauge('qx_updates', 'Updates of this host by how they ended', ended);
}
