import { hostname } from 'node:os';
import { QxError } from '../../errors.ts';
import type { Config } from '../../format/config.ts';
import { FLEETLOCK_HEADER, FLEETLOCK_ROUTES, type FleetLockRequest } from '../../format/fleetlock.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Files } from '../../ports.ts';
import { ANSWER_WITHIN, textOf, wordsOf } from '../fleet/answer.ts';
import type { Member } from '../fleet/enrol.ts';
import { idFor, ownIdFor } from '../identity.ts';
import { afterDrain, type Coordinator } from './coordinator.ts';
import { changeRecord, loadRecord } from './record.ts';

/** A FleetLock server of somebody else's gives out the places: https://coreos.github.io/zincati/development/fleetlock/protocol/ */

const LIMITS = { ...ANSWER_WITHIN, maxBytes: 64 << 10 };

type Settings = NonNullable<Config['fleetlock']>;

export function fleetlock({ files, http }: Pick<Member, 'files' | 'http'>, settings: Settings): Coordinator {
  /** Null: yes. */
  const call = async (path: string, id: string): Promise<string | null> => {
    const { url, group, login } = settings;
    const body: FleetLockRequest = { client_params: { id, group } };
    const response = await http.post(url + path, {
      limits: LIMITS,
      headers: { 'content-type': 'application/json', [FLEETLOCK_HEADER]: 'true', ...(await loginHeader(files, login)) },
      body: JSON.stringify(body),
    });
    const said = await textOf(response);
    return response.status === 200 ? null : `${url} answers ${response.status}: ${reasonIn(said)}`;
  };
  const preReboot = (id: string) => call(FLEETLOCK_ROUTES.preReboot.path, id);
  const steadyState = async (id: string): Promise<void> => {
    const refused = await call(FLEETLOCK_ROUTES.steadyState.path, id);
    if (refused !== null) throw new QxError('SERVER_ERROR', refused);
  };
  const ownId = (): Promise<string> => ownIdFor(files, 'fleetlock');
  /** A place is given back under the id by which it was taken. */
  const heldBy = async ({ lock_id }: HostMaintenance): Promise<string> => lock_id ?? idBefore(files);
  return {
    by: 'fleetlock',
    atFirst: async () => ({ lock_id: await ownId() }),
    ask: async () => {
      const id = await ownId();
      const record = await loadRecord(files);
      if (record !== null && record.lock_id !== id) {
        // Taken by an agent that knew no id of its own: with a place under each id, this host would wait for itself.
        await steadyState(await heldBy(record));
        await changeRecord(files, record, { lock_id: id });
      }
      const refused = await preReboot(id);
      return refused === null ? { kind: 'drain' } : { kind: 'wait', reason: refused, retryAfterMs: 60_000 };
    },
    drained: async (state) => afterDrain(state),
    plan: async () => null,
    begin: async (record) => {
      const reason = await preReboot(await heldBy(record));
      return reason === null ? { granted: true } : { granted: false, reason };
    },
    verifying: async () => undefined,
    // After a failure the lock is kept: a release that is bad everywhere must not take one host after the other.
    end: async (record, how) => {
      if (how === 'failed') return 'kept';
      await steadyState(await heldBy(record));
      return 'over';
    },
    // The protocol has no words for it: `qx-update reset` on the host says so.
    isForgiven: async (record, isDismissed) => {
      if (isDismissed) await steadyState(await heldBy(record));
      return isDismissed;
    },
  };
}

const MAX_LOGIN_BYTES = 4096;

async function loginHeader(files: Files, path: string | null): Promise<Record<string, string>> {
  if (path === null) return {};
  const bytes = await files.read(path, MAX_LOGIN_BYTES);
  if (bytes === null) throw new QxError('CONFIG_INVALID', `updates: fleetlock_login: there is no ${path}`);
  return { authorization: `Basic ${Buffer.from(new TextDecoder().decode(bytes).trim()).toString('base64')}` };
}

/** By which agents of before took their places: from files of the image, and so perhaps that of all hosts. */
async function idBefore(files: Files): Promise<string> {
  const bytes = await files.read('/etc/machine-id', 4096);
  return idFor('fleetlock', new TextDecoder().decode(bytes ?? new Uint8Array()).trim() || hostname());
}

const MAX_REASON = 300;

function reasonIn(text: string): string {
  try {
    const { kind, value } = JSON.parse(text) as { kind?: unknown; value?: unknown };
    return wordsOf(value, MAX_REASON) || wordsOf(kind, MAX_REASON) || 'it gives no reason';
  } catch {
    return 'it gives no reason that can be read';
  }
}
