import type { Host } from '../agent/host.ts';
import type { HostKeyring } from '../agent/keyring.ts';

/** What `cli/serve.ts` makes of a machine for the daemon and for the commands that work without it. */
export interface ComposedHost extends Host, HostKeyring {
  close(): Promise<void>;
}

export const AGENT_SOCKET = '/run/quantix/node.sock';
