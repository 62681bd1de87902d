import type { InstallRequest } from '../core/plan.ts';
import { isRefusal, type Refusal } from '../core/plan.ts';
import { type Code, QxError } from '../errors.ts';
import type { AGENT_ROUTES } from '../format/agent-routes.ts';
import type { SettingsChange } from '../format/settings-change.ts';
import type { Caller, CertificateState, Handlers, Reply } from '../ports/serving.ts';
import type { Agent } from './agent.ts';
import {
  type Closed,
  checkResponse,
  doorsResponse,
  planResponse,
  progressResponse,
  versionsOf,
} from './api/answers.ts';
import { eventStream } from './api/events.ts';
import { confirm } from './confirm.ts';
import { situation } from './facts.ts';
import { loadMembership } from './fleet/membership.ts';
import { loadHistory } from './history.ts';
import { setHold } from './hold.ts';
import type { Host } from './host.ts';
import type { HostKeyring } from './keyring.ts';
import { markSlot } from './mark.ts';
import { metricsText } from './metrics.ts';
import { reboot, rebootRefusal } from './reboot.ts';
import { reset } from './reset.ts';
import { rollback } from './rollback.ts';
import { settingFields } from './settings.ts';
import { slotTable } from './slots.ts';
import { shownSettings } from './source.ts';
import { verify } from './verify.ts';

/** The REST interface of the host agent: each route is a few lines over the agent and the journeys of the host. */

export interface Agency {
  readonly host: Host;
  readonly agent: Agent;
  readonly hostname: string;
  readonly keyringFrom: HostKeyring['keyringFrom'];
  /** Settings that are in force from now on and after a reboot. @throws QxError CONFIG_INVALID | BUSY */
  readonly changeSettings: (change: SettingsChange) => Promise<void>;
  /** The executable of this process was put back: it should end, and be started anew. */
  readonly restart: () => void;
  /** The ways over the network; null: there are none. */
  readonly doors: {
    certificate(): CertificateState;
    closed(): Promise<readonly Closed[]>;
  } | null;
}

export const agentHandlers = (agency: Agency): Handlers<typeof AGENT_ROUTES> => ({
  ...looks(agency),
  ...orders(agency),
  ...rescues(agency),
});

type Routes = Handlers<typeof AGENT_ROUTES>;

/** Whoever asks these learns something and changes nothing. */
const looks = ({ host, agent, hostname, keyringFrom, doors }: Agency) =>
  ({
    check: async ({ signal }) => ({ json: await checkResponse(host, await agent.check(signal)) }),
    plan: async ({ signal }) => {
      const plan = planResponse(await agent.check(signal));
      const drain = plan.requiresReboot ? await host.duties.outlook() : null;
      return { json: drain === null ? plan : { ...plan, drain } };
    },
    status: async () => ({
      json: {
        ...(await agent.status()),
        ...(doors === null ? {} : doorsResponse(doors.certificate(), await doors.closed())),
      },
    }),
    progress: async () => ({ json: progressResponse(agent) }),
    events: async ({ signal }) => eventStream(agent, host.clock, signal),
    health: async () => ({ json: { status: 'healthy' } }),
    current: async () => ({ json: versionsOf((await situation(host)).facts) }),
    config: async () => ({ json: await shownSettings(host) }),
    slots: async () => ({ json: { slots: [...(await slotTable(host))] } }),
    history: async () => ({ json: { entries: (await loadHistory(host)).entries.toReversed() } }),
    verify: async ({ signal }) => ({ json: await verify(host, signal) }),
    metrics: async () => ({
      bytes: new TextEncoder().encode(await metricsText(host, doors?.certificate() ?? null)),
      type: METRICS_TYPE,
    }),
    version: async () => {
      const { facts } = await situation(host);
      const keyring = { kind: host.keyring.kind, from: keyringFrom };
      // One that cannot be read is told wherever the fleet is asked; here the rest still counts.
      const member = await loadMembership(host.files).catch(() => null);
      const fleet = member === null ? {} : { fleet: { nodeId: member.node_id, server: member.server } };
      return {
        json: { currentVersion: facts.currentVersion, channel: host.config.channel, hostname, keyring, ...fleet },
      };
    },
  }) satisfies Partial<Routes>;

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** What the agent does from here on. The caller only waits for the beginning: the end is in the status, the journal and the log. */
const orders = ({ host, agent, changeSettings }: Agency) =>
  ({
    apply: async ({ body, caller }) =>
      refuseStart(host, body, caller) ??
      (await begin(host, caller, 'apply', () => agent.install(requestOf(body)), body)),
    download: async ({ body, caller }) =>
      refuseStart(host, body, caller) ?? (await begin(host, caller, 'download', () => agent.download(requestOf(body)))),
    install: async ({ body, caller }) =>
      refuseStart(host, body, caller) ??
      (await begin(host, caller, 'install', () => agent.installBundle(body.path, requestOf(body)), body)),
    cancel: async () => {
      if (!agent.cancel())
        return refused('NOTHING_TO_CANCEL', 'no update and no download is running', 'qx-update status');
      return { json: { status: 'cancelling', message: 'It stops at its next safe point' } };
    },
    reset: async ({ body, caller }) => {
      const seen = body?.seen === true;
      const remembered = body?.remembered;
      if ((seen || remembered !== undefined) && caller.via !== 'unix')
        return refused(
          'FORBIDDEN',
          'only root on this host may forget what was seen',
          'as root on the host itself: qx-update reset --seen',
        );
      // What is damaged may be the very thing that the status is read from.
      const { status: previousStatus } = await agent.status().catch(() => ({ status: 'error' as const }));
      const what = { downloads: body?.downloads === true, seen, remembered };
      const refusal = await reset(host, what, actorOf(caller));
      if (refusal !== null) return asRefused(refusal);
      agent.forget();
      const currentStatus = (await agent.status()).status;
      return { json: { success: true, message: 'The status was reset', previousStatus, currentStatus } };
    },
    hold: async ({ body, caller }) =>
      answer(await setHold(host, body?.reason ?? 'asked for by the operator', actorOf(caller))),
    unhold: async ({ caller }) => answer(await setHold(host, null, actorOf(caller))),
    changeConfig: async ({ body, caller }) => {
      await changeSettings(body);
      await host.audit.record({ event: 'settings_changed', actor: actorOf(caller), fields: settingFields(body) });
      return { json: await shownSettings(host) };
    },
  }) satisfies Partial<Routes>;

/** What boots: the same journeys that the command line runs on the host itself. */
const rescues = ({ host, restart }: Agency) =>
  ({
    rollback: async ({ body }) =>
      answer(await rollback(host, body?.reason ?? 'asked for by the operator', async () => restart())),
    confirm: async ({ signal }) => {
      const done = await confirm(host, { signal });
      if (done.kind === 'refusal') return asRefused(done);
      const { kind, version } = done;
      if (kind !== 'confirmed') {
        const { attempt, attempts, failed } = done;
        return { json: { kind, version, attempt, attempts, failed: probes(failed) } };
      }
      return { json: { kind, version, slot: done.slot, warnings: probes(done.warnings) } };
    },
    mark: async ({ body: { mark, slot = 'booted' } }) => answer(await markSlot(host, mark, slot)),
    reboot: async ({ caller }) => {
      await host.duties.tryNow();
      const refusal = await rebootRefusal(host);
      if (refusal !== null) return asRefused(refusal);
      void afterTheAnswer(host, () => reboot(host, actorOf(caller)));
      return { json: { status: 'rebooting', message: 'The host reboots now' } };
    },
  }) satisfies Partial<Routes>;

const ANSWER_FIRST_MS = 500;

async function afterTheAnswer({ clock, log }: Host, act: () => Promise<void>): Promise<void> {
  try {
    await clock.sleep(ANSWER_FIRST_MS);
    await act();
  } catch (error) {
    log.warn('reboot_failed', { detail: String(error) });
  }
}

const probes = (results: readonly { readonly name: string; readonly detail: string }[]) =>
  results.map(({ name, detail }) => ({ name, detail }));

interface Wish {
  readonly version?: string;
  readonly components?: readonly string[];
  readonly allow_downgrade?: boolean;
  readonly force_reboot?: boolean;
}

function refuseStart({ config }: Host, wish: Wish | undefined, { via }: Caller): Reply<never> | null {
  if (!config.enabled)
    return refused(
      'UPDATES_DISABLED',
      'updates are switched off by updates.enabled: false',
      'qx-update config set enabled=true',
    );
  if (wish?.allow_downgrade !== true || via === 'unix') return null;
  return refused(
    'DOWNGRADE_NEEDS_ROOT',
    'a downgrade is only taken from root on this host',
    'as root on the host itself: qx-update apply --allow-downgrade',
  );
}

const requestOf = (wish: Wish = {}): InstallRequest => ({
  ...(wish.version === undefined ? {} : { version: wish.version }),
  ...(wish.components === undefined ? {} : { components: wish.components }),
  ...(wish.allow_downgrade === undefined ? {} : { allowDowngrade: wish.allow_downgrade }),
  ...(wish.force_reboot === undefined ? {} : { reboot: wish.force_reboot }),
});

async function begin(host: Host, caller: Caller, what: string, start: () => Promise<unknown>, wish: Wish = {}) {
  // A person wants the reboot now, whatever came of the last drain.
  if (wish.force_reboot === true) await host.duties.tryNow();
  void start();
  await host.audit.record({ event: 'update_requested', actor: actorOf(caller), fields: { what } });
  const name = what === 'download' ? 'Download' : 'Update';
  return { json: { status: 'started', message: `${name} process started` } };
}

/** Who it was, for the audit log. */
export function actorOf({ via, address, certificate }: Pick<Caller, 'via' | 'address' | 'certificate'>): string {
  if (via === 'unix') return 'root on the socket';
  return certificate === null ? `administrator from ${address}` : `${certificate.subject} from ${address}`;
}

const refused = (code: Code, detail: string, next: string): Reply<never> => ({
  refused: new QxError(code, detail, { next }),
});

const asRefused = ({ code, detail, next }: Refusal): Reply<never> => ({
  refused: new QxError(code, detail, next === undefined ? {} : { next }),
});

const answer = <T extends object>(result: T | Refusal): Reply<Exclude<T, Refusal>> =>
  isRefusal(result) ? asRefused(result) : { json: result as Exclude<T, Refusal> };
