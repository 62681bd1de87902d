import { type InstallRequest, type Refusal, refusal } from '../core/plan.ts';
import { makePlan, refuse } from './check.ts';
import { type Host, PATHS, type Watch } from './host.ts';
import { recover } from './recover.ts';
import { fetchAll } from './staging.ts';

/** Everything that an update needs, fetched and verified ahead of it. Nothing of the host is touched. */
export async function download(
  host: Host,
  request: InstallRequest,
  watch: Watch,
): Promise<Refusal | { readonly kind: 'downloaded'; readonly version: string }> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refuse(host, refusal('BUSY', 'an update is under way on this host', 'qx-update status'));
  try {
    await recover(host);
    const plan = await makePlan(host, request, watch);
    if (plan.kind === 'refusal') return plan;
    await fetchAll(host, plan, watch);
    return { kind: 'downloaded', version: plan.manifest.version };
  } finally {
    await unlock();
  }
}
