import { createHash } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { auditLog, BEGIN_ANEW, readAudit } from '../../src/agent/audit.ts';
import type { AuditRecord } from '../../src/ports/audit.ts';
import { hostFiles } from '../../src/system/files.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { cutAfter } from '../support/powercut.ts';
import { temporaryFolder } from '../support/temp.ts';

/** The audit log on real files: a chain that tells what was done to it, and that never stands in the way. */

async function bench(root?: string) {
  const folder = root ?? (await temporaryFolder());
  const files = hostFiles(folder);
  const log = recordedLog();
  const at = join(folder, 'quantix/limiquantix/audit');
  const audit = auditLog({ files, clock: { ...fakeClock(), sleep: () => new Promise((r) => setTimeout(r, 5)) }, log });
  const segments = async () => (await readdir(at)).filter((name) => name.startsWith('audit-')).sort();
  return { folder, files, log, at, audit, segments, read: () => readAudit(files) };
}

const refused = (detail: string): AuditRecord => ({ event: 'release_refused', code: 'DOWNGRADE', detail });

async function withEvents(count: number) {
  const made = await bench();
  for (let i = 1; i <= count; i++) await made.audit.record(refused(`refusal ${i}`));
  const [segment = ''] = await made.segments();
  const path = join(made.at, segment);
  return { ...made, path, lines: async () => (await readFile(path, 'utf8')).split('\n').slice(0, -1) };
}

test('events are numbered, dated, chained and readable by their owner only', async () => {
  const { read, path, at } = await withEvents(3);
  const { events, verdict } = await read();
  expect(verdict).toEqual({ ok: true, events: 3, firstSeq: 1, lastSeq: 3, broken: null });
  expect(events.map(({ seq, event, code, detail }) => [seq, event, code, detail])).toEqual([
    [1, 'release_refused', 'DOWNGRADE', 'refusal 1'],
    [2, 'release_refused', 'DOWNGRADE', 'refusal 2'],
    [3, 'release_refused', 'DOWNGRADE', 'refusal 3'],
  ]);
  expect(events[1]?.prev).toBe(events[0]?.hash);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await stat(at)).mode & 0o777).toBe(0o700);
});

test('a chain goes on in another process, and two that write at once make one chain', async () => {
  const first = await bench();
  const second = await bench(first.folder);
  await Promise.all(
    Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? first : second).audit.record(refused(`number ${i}`))),
  );
  const { events, verdict } = await first.read();
  expect(verdict).toMatchObject({ ok: true, events: 10 });
  expect(new Set(events.map(({ detail }) => detail)).size).toBe(10);
});

test.each([
  ['edited', (lines: string[]) => lines.with(1, (lines[1] ?? '').replace('refusal 2', 'refusal X')), 2, /was changed/],
  ['edited, its hash made anew', (lines: string[]) => lines.with(1, forged(lines[1] ?? '')), 3, /does not continue/],
  ['taken out', (lines: string[]) => lines.toSpliced(1, 1), 2, /number 3 where 2/],
  ['put in twice', (lines: string[]) => lines.toSpliced(1, 0, lines[1] ?? ''), 3, /number 2 where 3/],
  [
    'exchanged with its neighbour',
    (lines: string[]) => [lines[0], lines[2], lines[1], lines[3]],
    2,
    /number 3 where 2/,
  ],
  ['replaced by noise', (lines: string[]) => lines.with(2, 'noise'), 3, /was changed/],
  ['cut off at the end', (lines: string[]) => lines.slice(0, 2), 0, /ends with number 2, 4 was written/],
])('T43: a line that was %s breaks the chain at that place', async (_what, change, line, detail) => {
  const { read, path, lines } = await withEvents(4);
  await writeFile(path, `${change(await lines()).join('\n')}\n`);
  expect((await read()).verdict).toMatchObject({ ok: false, broken: { line, detail: expect.stringMatching(detail) } });
});

function forged(line: string): string {
  const body = line.replace('refusal 2', 'refusal X').replace(/,"hash":"[a-f0-9]{64}"}$/, '}');
  return `${body.slice(0, -1)},"hash":"${createHash('sha256').update(body).digest('hex')}"}`;
}

test('T43: what was tampered with stays found after more was written', async () => {
  const { read, path, lines, audit } = await withEvents(4);
  await writeFile(path, `${(await lines()).slice(0, 2).join('\n')}\n`);
  await audit.record(refused('later'));
  expect((await read()).verdict).toMatchObject({ ok: false, broken: { line: 3 } });
});

test('T43: newlines, terminal codes and turned text of a stranger stay inside one line and are made harmless', async () => {
  const { audit, read, segments, at } = await bench();
  await audit.record(refused('one\ntwo\r\u001b[31mred\u202eback\u2028\u0000e\u0301\ud800'));
  await audit.record({ event: 'request_refused', actor: 'x'.repeat(5000), fields: { 'na\nme': 'val\u009bue' } });
  const [segment = ''] = await segments();
  expect((await readFile(join(at, segment), 'utf8')).split('\n')).toHaveLength(3);
  const { events, verdict } = await read();
  expect(verdict.ok).toBe(true);
  expect(events[0]?.detail).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  expect(events[1]?.actor).toHaveLength(1000);
});

test('segments are bounded, the oldest go, and what is left still verifies', async () => {
  const { at, audit, read, segments } = await bench();
  // A full segment is one that has its size; nobody writes half a megabyte of events in a test.
  for (let i = 0; i < 20; i++) {
    await audit.record(refused(`segment ${i}`));
    const last = (await segments()).at(-1) ?? '';
    await grow(join(at, last));
  }
  const kept = await segments();
  expect(kept).toHaveLength(16);
  expect(kept[0]).not.toBe('audit-000000000001.jsonl');
  expect((await read()).verdict.broken?.detail).toMatch(/was changed/);
});

/** Lines that are no events: they count for the size, and are what the verdict then complains of. */
const grow = (path: string): Promise<void> => appendFile(path, `${'x'.repeat(1023)}\n`.repeat(512));

test('real segments verify across their borders', async () => {
  const { audit, read, segments } = await bench();
  const long = {
    event: 'settings_changed',
    fields: Object.fromEntries(range(60).map((i) => [`f${i}`, 'v'.repeat(990)])),
  } as const;
  for (let i = 0; i < 20; i++) await audit.record(long);
  expect((await segments()).length).toBeGreaterThan(1);
  expect((await read()).verdict).toMatchObject({ ok: true, events: 20 });
});

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

test('half a line of a power cut is cut off by the next event', async () => {
  const { path, audit, read } = await withEvents(2);
  await appendFile(path, '{"format":1,"seq":3,"at":"20');
  expect((await read()).verdict).toMatchObject({ ok: true, events: 2 });
  await audit.record(refused('after the cut'));
  expect((await read()).verdict).toMatchObject({ ok: true, events: 3 });
});

test('a power cut after each effect leaves a chain that holds and goes on', async () => {
  for (let count = 0; ; count++) {
    const { files, folder, read } = await bench();
    await auditLog({ files, clock: fakeClock(), log: recordedLog() }).record(refused('before'));
    const cut = cutAfter({ files }, count, { torn: true });
    await auditLog({ files: cut.ports.files, clock: fakeClock(), log: recordedLog() })
      .record(refused('cut'))
      .catch(() => undefined);
    await rm(join(folder, 'run/quantix/audit.lock'), { force: true });
    expect((await read()).verdict, `cut after effect ${count}`).toMatchObject({ ok: true });
    await auditLog({ files, clock: fakeClock(), log: recordedLog() }).record(refused('after'));
    const { events, verdict } = await read();
    expect(verdict, `cut after effect ${count}`).toMatchObject({ ok: true });
    expect([events[0]?.detail, events.at(-1)?.detail]).toEqual(['before', 'after']);
    if (!cut.isOff()) return;
  }
});

test('a log that cannot be written is a warning and nothing else', async () => {
  const { folder, audit, log } = await bench();
  await mkdir(join(folder, 'quantix'), { recursive: true });
  await writeFile(join(folder, 'quantix/limiquantix'), 'a file where the folder should be');
  await expect(audit.record(refused('lost'))).resolves.toBeUndefined();
  expect(log.lines).toMatchObject([{ level: 'warn', event: 'audit_not_kept' }]);
});

test('a head that was lost or emptied is told, and the chain goes on', async () => {
  const { at, audit, read } = await withEvents(2);
  await truncate(join(at, 'head'), 0);
  expect((await read()).verdict).toMatchObject({ ok: false, broken: { detail: expect.stringMatching(/head/) } });
  await audit.record(refused('later'));
  expect((await read()).verdict).toMatchObject({ ok: true, events: 3 });
});

test('a chain that is broken is put aside by hand, as verify says, and the next event begins another', async () => {
  const { audit, at, folder, read } = await bench();
  await audit.record(refused('one'));
  await writeFile(join(at, 'head'), 'rubbish');
  await audit.record(refused('two'));
  const [line = ''] = BEGIN_ANEW.match(/mv \S+ \S+$/) ?? [];
  const [, from = '', to = ''] = line.split(' ');
  await rename(join(folder, from), join(folder, to));
  await audit.record(refused('three'));
  expect((await read()).verdict).toMatchObject({ ok: true, events: 1, firstSeq: 1 });
  expect(await readdir(join(folder, to))).toContain('head');
});
