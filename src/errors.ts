/**
 * Every way in which something is refused or fails, in one table.
 *
 * A code is stable: operators alert on it, tests assert it, audit events carry it. From the code follow the exit code of
 * the command line tools, the HTTP status of both APIs, and whether trying again later can help.
 */

/** Exit codes of all five programs. Documented in the README; never renumbered. */
export const EXIT = {
  done: 0,
  other: 1,
  usage: 2,
  nothing: 3,
  rebootRequired: 4,
  policy: 5,
  busy: 6,
  verification: 7,
  noSpace: 8,
  unreachable: 9,
  agentDown: 10,
} as const;

type Row = { readonly http: number; readonly exit: keyof typeof EXIT; readonly retry: boolean };
const row = (http: number, exit: keyof typeof EXIT, retry = false): Row => ({ http, exit, retry });

export const ERRORS = {
  // What was asked for makes no sense.
  USAGE: row(400, 'usage'),
  CONFIG_INVALID: row(400, 'usage'),
  BAD_REQUEST: row(400, 'usage'),
  METHOD_NOT_ALLOWED: row(405, 'usage'),
  REQUEST_TIMEOUT: row(408, 'other', true),
  BODY_TOO_LARGE: row(413, 'usage'),
  MEDIA_TYPE_UNSUPPORTED: row(415, 'usage'),
  HEADERS_TOO_LARGE: row(431, 'usage'),
  RANGE_UNSATISFIABLE: row(416, 'usage'),
  REFUSED_OVERWRITE: row(409, 'usage'),
  NOT_FOUND: row(404, 'other'),

  // Who asked.
  TOKEN_REQUIRED: row(401, 'policy'),
  TOKEN_REFUSED: row(401, 'policy'),
  CLIENT_CERT_REFUSED: row(401, 'policy'),
  TOO_MANY_ATTEMPTS: row(429, 'policy', true),
  FORBIDDEN: row(403, 'policy'),
  ROLE_MISSING: row(403, 'policy'),
  TLS_REQUIRED: row(403, 'policy'),
  INSECURE_TOKEN: row(500, 'usage'),

  // Who belongs to the fleet.
  INVITE_REFUSED: row(403, 'policy'),
  APPROVAL_PENDING: row(403, 'policy', true),
  NODE_REVOKED: row(403, 'policy'),
  NODE_UNKNOWN: row(404, 'other'),
  AUTHORITY_DIFFERS: row(500, 'other'),
  // Of the server: what it made now would be of another time.
  CLOCK_WRONG: row(503, 'other', true),
  NAME_TAKEN: row(409, 'usage'),
  KEY_MISMATCH: row(409, 'policy'),
  ALREADY_ENROLLED: row(409, 'nothing'),
  // A key that was made on another machine, and one that two machines use.
  MACHINE_DIFFERS: row(409, 'policy'),
  MACHINE_IS_SAME: row(409, 'nothing'),
  IDENTITY_SHARED: row(409, 'policy'),
  IDENTITY_NOT_SHARED: row(409, 'nothing'),
  NOT_ENROLLED: row(404, 'nothing'),

  // Trust: envelope, signature, manifest.
  ENVELOPE_MALFORMED: row(400, 'verification'),
  ALGORITHM_UNSUPPORTED: row(403, 'verification'),
  SIGNATURE_MALFORMED: row(403, 'verification'),
  SIGNATURE_INVALID: row(403, 'verification'),
  UNSIGNED: row(403, 'verification'),
  KEY_UNKNOWN: row(403, 'verification'),
  KEY_RETIRED: row(403, 'verification'),
  KEY_NOT_ALLOWED: row(403, 'verification'),
  KEY_UNSAFE: row(400, 'verification'),
  THRESHOLD_NOT_MET: row(403, 'verification'),
  KEYRING_INVALID: row(500, 'verification'),
  MANIFEST_INVALID: row(400, 'verification'),
  MANIFEST_CRITICAL_UNKNOWN: row(409, 'verification'),
  WRONG_PRODUCT: row(403, 'verification'),
  WRONG_CHANNEL: row(403, 'verification'),
  NOT_COMPATIBLE: row(409, 'verification'),
  SEQUENCE_REPLAYED: row(409, 'verification'),
  SEQUENCE_MISSING: row(409, 'verification'),
  EXPIRED: row(409, 'verification'),
  DATED_AHEAD: row(409, 'verification'),
  SEQUENCE_AHEAD: row(409, 'verification'),
  DOWNGRADE: row(409, 'verification'),
  BELOW_FLOOR: row(409, 'verification'),
  TOO_OLD_TO_UPDATE: row(409, 'verification'),
  PATH_NOT_ALLOWED: row(403, 'verification'),
  PATH_OCCUPIED: row(409, 'other', true),
  DEPENDENCY_UNMET: row(409, 'verification'),
  VERSION_INVALID: row(400, 'verification'),

  // Bytes.
  HASH_MISMATCH: row(422, 'verification'),
  SIZE_MISMATCH: row(422, 'verification'),
  READBACK_MISMATCH: row(500, 'verification'),
  ARCHIVE_UNSAFE: row(422, 'verification'),
  ARCHIVE_MALFORMED: row(422, 'verification'),
  ARCHIVE_TOO_LARGE: row(422, 'verification'),
  ARTIFACT_MISSING: row(409, 'verification'),
  ARTIFACT_UNLISTED: row(409, 'verification'),
  BUNDLE_INVALID: row(422, 'verification'),
  IMAGE_UNBOOTABLE: row(422, 'verification'),
  NO_SPACE: row(507, 'noSpace', true),
  SLOT_TOO_SMALL: row(507, 'noSpace'),

  // The network and the server.
  SERVER_UNREACHABLE: row(503, 'unreachable', true),
  SERVER_ERROR: row(502, 'unreachable', true),
  SERVER_REFUSED: row(502, 'unreachable'),
  REDIRECT_REFUSED: row(502, 'unreachable'),
  // Who answers there has another key than the server that this host was told of.
  SERVER_KEY_WRONG: row(502, 'verification'),
  RESPONSE_TOO_LARGE: row(502, 'verification'),
  DOWNLOAD_STALLED: row(504, 'unreachable', true),
  NO_RELEASE: row(404, 'nothing', true),

  // Policy: the host may not do this now.
  NOTHING_NEWER: row(409, 'nothing'),
  REBOOT_PENDING: row(409, 'rebootRequired', true),
  ALREADY_INSTALLED: row(409, 'rebootRequired'),
  NOTHING_TO_CONFIRM: row(409, 'nothing'),
  NOTHING_TO_ROLL_BACK: row(409, 'nothing'),
  NOTHING_TO_CANCEL: row(409, 'nothing'),
  UPDATES_DISABLED: row(409, 'policy'),
  HELD: row(409, 'policy'),
  RELEASE_BAD: row(409, 'policy'),
  // By somebody who wanted it so.
  TAKEN_BACK: row(409, 'policy'),
  SLOT_RUNNING: row(409, 'policy'),
  OFFER_REFUSED: row(409, 'policy', true),
  REBOOT_REFUSED: row(409, 'policy', true),
  NODE_MISMATCH: row(403, 'policy'),
  NOT_IN_MAINTENANCE: row(404, 'other'),
  EPOCH_STALE: row(409, 'policy'),
  GRANT_LAPSED: row(409, 'policy', true),
  DRAIN_FAILED: row(409, 'policy', true),
  NO_PLACE: row(409, 'policy', true),
  CANCEL_UNSAFE: row(409, 'policy'),
  ON_TRIAL: row(409, 'policy', true),
  DOWNGRADE_NEEDS_ROOT: row(403, 'policy'),
  BUSY: row(409, 'busy', true),

  // The host itself.
  AGENT_FAILED: row(500, 'other'),
  AGENT_DOWN: row(503, 'agentDown', true),
  // The agent is there, and waits for its settings to be mended.
  SETTINGS_REFUSED: row(503, 'usage', true),
  BOOT_ENV_INVALID: row(500, 'other'),
  BOOT_ENV_READ_ONLY: row(500, 'other', true),
  BOOT_MISSING: row(500, 'other', true),
  MOUNT_MISSING: row(500, 'other', true),
  BOOT_MISMATCH: row(500, 'other'),
  DISK_AMBIGUOUS: row(500, 'other'),
  SLOT_MISPLACED: row(500, 'other'),
  SLOT_NOT_FOUND: row(500, 'other'),
  SERVICE_FAILED: row(500, 'other'),
  PROBE_FAILED: row(500, 'other'),
  STATE_INVALID: row(500, 'other'),
  STATE_UNREACHABLE: row(503, 'unreachable', true),
  STATE_TOO_NEW: row(500, 'other'),
  AUDIT_BROKEN: row(500, 'verification'),
  ILLEGAL_TRANSITION: row(409, 'other'),
  IO: row(500, 'other', true),
  CANCELLED: row(499, 'other', true),
  INTERRUPTED: row(500, 'other', true),
  SUPERSEDED: row(409, 'other'),
  UNHEALTHY: row(500, 'other'),
  IMAGE_MISMATCH: row(500, 'verification'),
  TRIAL_INTERRUPTED: row(500, 'other', true),
  TRIAL_PASSED_OVER: row(500, 'other', true),
  INTERNAL: row(500, 'other'),
} as const satisfies Record<string, Row>;

export type Code = keyof typeof ERRORS;

/** `detail` says what was refused and by which check; `next` says what the operator can do about it. */
export class QxError extends Error {
  override readonly name = 'QxError';
  readonly code: Code;
  readonly next: string | undefined;

  constructor(code: Code, detail: string, options: { next?: string; cause?: unknown } = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.next = options.next;
  }
}

export const isCode = (error: unknown, ...codes: readonly Code[]): error is QxError =>
  error instanceof QxError && codes.includes(error.code);

const SYSTEM_CODES: Readonly<Record<string, Code>> = {
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  ABORT_ERR: 'CANCELLED',
};

/** Any thrown value as a `QxError`: what the system reports keeps its message, and its code where we have one for it. */
export function asQxError(error: unknown): QxError {
  if (error instanceof QxError) return error;
  if (!(error instanceof Error)) return new QxError('INTERNAL', String(error));
  const system = (error as { code?: unknown }).code;
  if (typeof system !== 'string') return new QxError('INTERNAL', error.message, { cause: error });
  const isSyscall = 'syscall' in error;
  return new QxError(SYSTEM_CODES[system] ?? (isSyscall ? 'IO' : 'INTERNAL'), error.message, { cause: error });
}

/** As a line of a log has it. */
export function fieldsOf(error: unknown): { readonly code: Code; readonly detail: string; readonly next?: string } {
  const { code, message: detail, next } = asQxError(error);
  return { code, detail, ...(next === undefined ? {} : { next }) };
}

export const exitCode = (error: unknown): number => EXIT[ERRORS[asQxError(error).code].exit];

/** RFC 9457 problem details, with the `error` member that the first clients read. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: Code;
  readonly error: string;
  readonly next?: string;
}

export function problem(error: unknown): Problem {
  const { code, message, next } = asQxError(error);
  // An unforeseen failure may carry paths or data of the host: it goes to the log, not to the caller.
  const detail = code === 'INTERNAL' ? 'The request failed unexpectedly; the log says why.' : message;
  return {
    type: `urn:quantix:problem:${code.toLowerCase().replaceAll('_', '-')}`,
    title: code.toLowerCase().replaceAll('_', ' '),
    status: ERRORS[code].http,
    detail,
    code,
    error: detail,
    ...(next === undefined ? {} : { next }),
  };
}

/** What a person reads on a terminal: what was refused, the code to search for, and what to do next. */
export function explain(error: unknown): string {
  const { code, message, next } = asQxError(error);
  return next === undefined ? `${message} [${code}]` : `${message} [${code}]\n  next: ${next}`;
}
