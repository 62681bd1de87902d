import type { AuditEventName } from '../format/audit.ts';

export interface AuditRecord {
  readonly event: AuditEventName;
  /** Of a refusal or a failure; a change that went well has none. */
  readonly code?: string;
  /** Who asked: `root on the socket`, `token from 10.0.0.7`, `schedule`. */
  readonly actor?: string;
  readonly detail?: string;
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
}

/** The tamper-evident record of this host: one event for each refusal and each change. */
export interface Audit {
  /** On disk when it resolves, where the disk lets it. Never fails: no update may end because its record could not be kept. */
  record(record: AuditRecord): Promise<void>;
}
