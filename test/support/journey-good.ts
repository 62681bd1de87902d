import type { Journey } from './journey.ts';
import { until } from './journey-host.ts';

/** Where several journeys begin: a host with components of its own in /data. */

const CONSOLE = '/data/bin/qx-console';
const PAGE = '/data/share/quantix-host-ui/index.html';

/** Publishes a console and a page of this version, with an image when there is one. */
export async function publishBoth({ desk, server }: Journey, version: string, image?: string): Promise<void> {
  const components = { 'qx-console': await desk.console(version), 'host-ui': await desk.page(version) };
  await desk.publish(server, { version, components, ...(image === undefined ? {} : { image }) });
}

/** What of console and page the host runs now: versions as the files say it, and as /data/versions does. */
export async function bothOf({ host }: Journey): Promise<readonly (string | null)[]> {
  const console = /^VERSION=(.*)$/m.exec((await host.text(CONSOLE)) ?? '')?.[1] ?? null;
  const page = /<title>Host (.*)<\/title>/.exec((await host.text(PAGE)) ?? '')?.[1] ?? null;
  const said = ['qx-console', 'host-ui'].map((name) => host.text(`/data/versions/${name}.version`));
  return [console, page, ...(await Promise.all(said))];
}

export const both = (version: string | null): readonly (string | null)[] => [version, version, version, version];

/** By what qx-update says of it. */
export const untilHealthy = (host: Journey['host']): Promise<void> =>
  until('the host is healthy', async () => (await host.run('qx-update', 'health')).exitCode === 0, host.patienceMs);

/** Of the boot environment, when nothing is on trial: both slots may boot, in this order. */
export const bothMayBoot = (...order: ['A', 'B'] | ['B', 'A']) => ({
  order,
  A: { ok: true, tries: 0 },
  B: { ok: true, tries: 0 },
  trial: '',
  failed: '',
});

/** Waits for what the agent does by itself after a start. */
export const untilPhase = ({ host }: Journey, phase: string): Promise<void> =>
  until(`the journal says ${phase}`, async () => (await host.journal())?.phase === phase, host.patienceMs);
