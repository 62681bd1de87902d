import { QxError } from '../../errors.ts';
import type { ComponentEntry } from '../../format/journal.ts';
import type { ComponentContext, UndoContext } from './context.ts';

/** How long a service that is still starting is waited for. */
const START_TIMEOUT_MS = 15_000;
const POLL_MS = 250;

/** Each service once, in the order of the last component that it has to see: by then all its files are in place. */
export function servicesOf(entries: readonly ComponentEntry[], { self }: Pick<UndoContext, 'self'>): string[] {
  const names = entries.map((entry) => entry.restart_service).filter((name) => name !== null && name !== self.service);
  return names.filter((name, i) => name !== null && names.lastIndexOf(name) === i) as string[];
}

/** @throws QxError SERVICE_FAILED | PROBE_FAILED */
export async function restartAndWatch(service: string, context: ComponentContext): Promise<void> {
  const { services, clock, log, settleMs, signal } = context;
  if (services.standIn !== null) {
    log.info('service_not_restarted', { service, reason: services.standIn });
    return;
  }
  log.info('service_restart', { service });
  await services.restart(service);
  await untilStarted(service, context);
  // A supervised service that dies and is started over and over looks started each time: its instance tells.
  const instance = await services.instance(service);
  await clock.sleep(settleMs, signal);
  const state = await services.state(service);
  if (state !== 'started')
    throw new QxError('PROBE_FAILED', `service ${service} was started and is ${state} a little later`);
  if ((await services.instance(service)) === instance) return;
  throw new QxError('PROBE_FAILED', `service ${service} died after its start and was started again`);
}

async function untilStarted(service: string, { services, clock, signal }: ComponentContext): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    const state = await services.state(service);
    if (state === 'started') return;
    // `unknown` is a service that is starting, and `crashed` one whose supervisor has not named its new process yet: on a busy
    // host both take a while. A service that does crash is found out here in the end, or while it settles.
    if (state === 'stopped' || waitedMs >= START_TIMEOUT_MS) {
      throw new QxError('PROBE_FAILED', `service ${service} was restarted and is ${state}`);
    }
    await clock.sleep(POLL_MS, signal);
  }
}
