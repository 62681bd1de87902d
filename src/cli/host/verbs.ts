import { apply, download, install } from './apply.ts';
import { confirm, health, mark, rollback, slots } from './boot.ts';
import { completion } from './completion.ts';
import { config } from './config.ts';
import { enroll, leave } from './enroll.ts';
import { events } from './events.ts';
import { identity } from './identity.ts';
import { log } from './log.ts';
import { check, current, plan, status } from './look.ts';
import { mounts } from './mounts.ts';
import { cancel, hold, reboot, reset, unhold } from './orders.ts';
import { history, verify } from './records.ts';
import { token } from './token.ts';
import type { Verb, VerbGroup } from './verb.ts';

/** Every verb of qx-update, by what it is for. */
export const VERBS: Readonly<Record<string, readonly (Verb | VerbGroup)[]>> = {
  Look: [status, check, plan, current, history, events],
  Update: [apply, download, install, cancel, reset, hold, unhold],
  Boot: [slots, rollback, confirm, health, mark],
  Host: [reboot, enroll, leave, identity, mounts, verify, config, token, log, completion],
};
