import { type Health, judgeHealth, type ProbeResult } from '../core/health.ts';
import { asQxError } from '../errors.ts';
import { notedTrouble } from './boot-truth.ts';
import { bootTrouble } from './bootenv.ts';
import type { Host } from './host.ts';
import { mountTrouble } from './mounts.ts';
import { AGENT_SERVICE } from './self.ts';
import { compared, vitals } from './vitals.ts';

/** Asks the host how it is, until it is well or the time is up. */

/** Between two rounds; or as long as a round took, so that a slow machine has half of its time for what is to become well. */
const ROUND_MS = 2000;

/** `before`: the facts that held before the update, null when nothing is known of them. */
export async function healthGate(
  host: Host,
  before: readonly string[] | null,
  signal?: AbortSignal,
): Promise<Exclude<Health, { verdict: 'waiting' }>> {
  const deadlineMs = host.clock.monotonicMs() + host.config.healthTimeoutMs;
  const rounds: (readonly ProbeResult[])[] = [];
  const ask = prober(host, before);
  for (;;) {
    const askedMs = host.clock.monotonicMs();
    rounds.push(await ask(signal));
    const nowMs = host.clock.monotonicMs();
    const health = judgeHealth(rounds, nowMs >= deadlineMs);
    if (health.verdict !== 'waiting') return health;
    await host.clock.sleep(Math.max(ROUND_MS, nowMs - askedMs), signal);
  }
}

/** Asks every probe once, each time it is called. */
export function prober(
  host: Host,
  before: readonly string[] | null,
): (signal?: AbortSignal) => Promise<readonly ProbeResult[]> {
  const probeService = serviceProbe(host);
  return async (signal) => {
    const own = await Promise.all([
      probeService(),
      probeAgent(host),
      probeTime(host),
      probeBoot(host),
      probeMounts(host),
      probeGrub(host),
    ]);
    return [...own, ...(await compared(host, before, await vitals(host, signal)))];
  };
}

/** A supervisor calls a service started that dies and comes back all the time: it has to be the same one as last round. */
function serviceProbe({ services }: Host): () => Promise<ProbeResult> {
  const seen = { instance: '' };
  return async () => {
    const result = { name: 'service', fatal: true };
    if (services.standIn !== null) return { ...result, ok: true, detail: `not asked: ${services.standIn}` };
    try {
      const state = await services.state(AGENT_SERVICE);
      const instance = await services.instance(AGENT_SERVICE);
      const isSame = seen.instance === '' || instance === seen.instance;
      seen.instance = instance;
      const detail = `${AGENT_SERVICE} is ${state}${isSame ? '' : ', but was started again'}`;
      return { ...result, ok: state === 'started' && isSame, detail };
    } catch (error) {
      // A machine that is too busy to say it now is asked again.
      return { ...result, ok: false, detail: asQxError(error).message };
    }
  };
}

async function probeAgent({ agent }: Host): Promise<ProbeResult> {
  const ok = await agent.answers();
  return { name: 'agent', ok, fatal: true, detail: ok ? 'answers' : 'does not answer on its socket' };
}

/** A wrong clock is worth a warning; turning the host back would not mend it. */
async function probeTime({ clock }: Host): Promise<ProbeResult> {
  const ok = await clock.isSynchronised();
  return { name: 'time', ok, fatal: false, detail: ok ? 'synchronised' : 'not known to be synchronised' };
}

/** A host that cannot reach what decides its boots, or runs another system than it believes, can neither be updated nor go back. */
async function probeBoot(host: Host): Promise<ProbeResult> {
  const trouble = (await bootTrouble(host).catch(asQxError)) ?? (await notedTrouble(host));
  return { name: 'boot', ok: trouble === null, fatal: true, detail: trouble?.message ?? 'is the one that GRUB reads' };
}

async function probeMounts(host: Host): Promise<ProbeResult> {
  const lost = await mountTrouble(host).catch(asQxError);
  return { name: 'mounts', ok: lost === null, fatal: true, detail: lost?.message ?? 'are all there' };
}

const MAX_GRUB_CFG_BYTES = 1 << 20;

/** No update replaces what decides which slot boots: it stays as it was installed until somebody renews it. */
async function probeGrub({ files }: Host): Promise<ProbeResult> {
  const [own, used] = await Promise.all(
    ['/usr/lib/quantix/grub.cfg', '/boot/grub/grub.cfg'].map((path) =>
      files.read(path, MAX_GRUB_CFG_BYTES).catch(() => null),
    ),
  );
  const result = { name: 'grub', fatal: false };
  if (!own) return { ...result, ok: true, detail: 'this image has no grub.cfg of its own' };
  const ok = !!used && Buffer.compare(used, own) === 0;
  const other = 'grub.cfg on the boot partition is not the one of this image, /usr/lib/quantix/grub.cfg';
  return { ...result, ok, detail: ok ? 'grub.cfg is the one of this image' : other };
}
