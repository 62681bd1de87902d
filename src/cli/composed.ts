import type { Host } from '../agent/host.ts';
import type { HostKeyring } from '../agent/keyring.ts';
import type { Config } from '../format/config.ts';
import type { Audit } from '../ports/audit.ts';
import type { Disks } from '../ports/disks.ts';
import type { Boot, Files, Http, Post, Random } from '../ports.ts';

/** What `cli/serve.ts` makes of a machine for the daemon and for the commands that work without it. */
export interface ComposedHost extends Host, HostKeyring {
  /** Settings that count from now on. Where the agent listens and which slots there are is read at its start only. */
  reconfigure(config: Config): void;
  readonly http: Http & Post;
  close(): Promise<void>;
}

/** What can still be read and changed where neither the agent nor the settings of a host are in order. */
export interface HostRecords {
  readonly files: Files;
  readonly audit: Audit;
  readonly boot: Boot;
  readonly disks: Disks;
  readonly random: Random;
}

export const AGENT_SOCKET = '/run/quantix/node.sock';

/** What OpenRC wrote down about the supervisor of the agent; of `openrc/quantix-node`. */
export const SUPERVISOR_PID = '/run/quantix-node.pid';
