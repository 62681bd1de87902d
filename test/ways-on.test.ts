import { expect, test } from 'vitest';
import { type Code, ERRORS } from '../src/errors.ts';
import { refusalSites } from './support/refusals.ts';

/**
 * Every refusal has a way on. Each says what to do next, where it is refused; save those below, of which the detail says all that
 * there is to say, and why it does.
 */

const FORM = 'names the value and how it has to look';
const CALLER = 'for the program that asked: it names what is wrong with the request';
const MAKER = 'names what is wrong in a file that its maker has to make again; nothing was changed here';
const NOTHING = 'there is nothing to do, and it says so';
const PLACE = 'names the file, the program or the address, and what the system says of it';
const ITSELF = 'is tried again, or was put back, by itself';

const TOLD: Partial<Record<Code, string>> = {
  USAGE: FORM,
  CONFIG_INVALID: FORM,
  VERSION_INVALID: FORM,
  BAD_REQUEST: CALLER,
  METHOD_NOT_ALLOWED: CALLER,
  MEDIA_TYPE_UNSUPPORTED: CALLER,
  HEADERS_TOO_LARGE: CALLER,
  REQUEST_TIMEOUT: CALLER,
  RANGE_UNSATISFIABLE: CALLER,
  FORBIDDEN: CALLER,
  ENVELOPE_MALFORMED: MAKER,
  ALGORITHM_UNSUPPORTED: MAKER,
  SIGNATURE_MALFORMED: MAKER,
  SIGNATURE_INVALID: MAKER,
  MANIFEST_INVALID: MAKER,
  KEYRING_INVALID: MAKER,
  KEY_UNSAFE: MAKER,
  PATH_NOT_ALLOWED: MAKER,
  DEPENDENCY_UNMET: MAKER,
  ARCHIVE_MALFORMED: MAKER,
  ARCHIVE_TOO_LARGE: MAKER,
  ARCHIVE_UNSAFE: MAKER,
  HASH_MISMATCH: MAKER,
  SIZE_MISMATCH: MAKER,
  WRONG_CHANNEL: MAKER,
  NOTHING_NEWER: NOTHING,
  NOTHING_TO_CONFIRM: NOTHING,
  NOTHING_TO_ROLL_BACK: NOTHING,
  NOT_ENROLLED: NOTHING,
  NOT_IN_MAINTENANCE: NOTHING,
  IDENTITY_NOT_SHARED: NOTHING,
  NO_RELEASE: NOTHING,
  NOT_FOUND: PLACE,
  IO: PLACE,
  SERVER_UNREACHABLE: PLACE,
  SERVER_REFUSED: PLACE,
  READBACK_MISMATCH: PLACE,
  BOOT_ENV_INVALID: PLACE,
  SLOT_NOT_FOUND: PLACE,
  PROBE_FAILED: ITSELF,
  SERVER_ERROR: ITSELF,
  DOWNLOAD_STALLED: ITSELF,
  RESPONSE_TOO_LARGE: ITSELF,
  TOO_MANY_ATTEMPTS: 'says how long to wait',
  CANCELLED: 'whoever cancelled it knows',
  INTERRUPTED: 'says how the update ended',
  AUDIT_BROKEN: 'is told by verify, with its place and its way on',
  ILLEGAL_TRANSITION: 'a fault of ours',
  INTERNAL: 'a fault of ours: the log says which',
};

/** Of codes that say what to do next everywhere else. */
const SITES: Readonly<Record<string, string>> = {
  'src/agent/slot.ts SLOT_RUNNING': 'a fault of ours: the plan never chooses it',
  'src/system/http/connect.ts SERVER_KEY_WRONG': 'said by memberHttp: this process knows nothing of fleets',
};

const sites = refusalSites();

test('they are found', () => {
  expect(sites.length).toBeGreaterThan(400);
  expect(sites.filter(({ codes }) => codes.includes('STATE_TOO_NEW')).length).toBeGreaterThan(1);
});

test('each says what to do next, or there is a reason why not', () => {
  const without = sites.flatMap(({ file, line, codes, hasNext }) =>
    hasNext
      ? []
      : codes
          .filter((code) => !(code in TOLD) && !(`${file} ${code}` in SITES))
          .map((code) => `${file}:${line} ${code}`),
  );
  expect(without).toEqual([]);
});

test('every reason is still one', () => {
  const silent = new Set(sites.flatMap(({ codes, hasNext }) => (hasNext ? [] : codes)));
  expect(Object.keys(TOLD).filter((code) => !(code in ERRORS) || !silent.has(code))).toEqual([]);
  const places = sites.flatMap(({ file, codes, hasNext }) => (hasNext ? [] : codes.map((code) => `${file} ${code}`)));
  expect(Object.keys(SITES).filter((site) => !places.includes(site))).toEqual([]);
});

test('a folder that is taken for a file is told from one', () => {
  const [regular] = sites.filter(({ file, codes }) => file === 'src/system/durable.ts' && codes.includes('IO'));
  expect(regular?.hasNext).toBe(true);
});
