import { type InstallRequest, isRefusal, type Refusal } from '../core/plan.ts';
import { lockHost, makePlan, noted } from './check.ts';
import type { Host, Watch } from './host.ts';
import { mountTrouble } from './mounts.ts';
import { recover } from './recover.ts';
import { fetchAll } from './staging.ts';

type DownloadResult = Refusal | { readonly kind: 'downloaded'; readonly version: string };

/** Everything that an update needs, fetched and verified ahead of it. Nothing of the host is touched. */
export const download = (host: Host, request: InstallRequest, watch: Watch): Promise<DownloadResult> =>
  noted(host, async () => {
    const unlock = await lockHost(host);
    if (isRefusal(unlock)) return unlock;
    try {
      await recover(host);
      const lost = await mountTrouble(host);
      if (lost !== null) throw lost;
      const plan = await makePlan(host, request, watch);
      if (plan.kind === 'refusal') return plan;
      await fetchAll(host, plan, watch);
      return { kind: 'downloaded', version: plan.manifest.version };
    } finally {
      await unlock();
    }
  });
