import { execFileSync } from 'node:child_process';
import { appendFileSync, writeFileSync } from 'node:fs';
import { cp, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import { install } from '../../src/agent/install.ts';
import type { HttpResponse } from '../../src/ports.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, type TestHost } from '../support/agent-host.ts';
import { bootState, installedBytes, okSlots, systemOn } from '../support/agent-machine.ts';
import { componentsOf, fullRelease } from '../support/agent-powercut.ts';
import { memorySite, type Release } from '../support/agent-releases.ts';
import { codeOf, expectGivenUp, expectRefusal } from '../support/attacks.ts';
import { largeArchive, releaseOf } from '../support/hostile-site.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** Disks that are full, read-only, or broken. */

const PIECE_BYTES = 32 << 10;

requires({ root: true, commands: [...IMAGE_COMMANDS, 'mount', 'umount'] })('T30 a disk', () => {
  const bench = agentBench();
  const made = {} as { release: Release };
  beforeAll(async () => {
    made.release = await releaseOf(bench, largeArchive(900_000));
  });

  /** A host with a file system of its own for a folder of it. */
  const mounted = async (folder: string, sizeMb: number): Promise<TestHost> => {
    const host = await bench.host([made.release]);
    const [at, aside] = [join(host.root, folder), join(host.root, 'run/aside')];
    await mkdir(at, { recursive: true });
    await cp(at, aside, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMb}m,mode=755`, 'tmpfs', at]);
    onTestFinished(() => void execFileSync('umount', [at]));
    await cp(aside, at, { recursive: true });
    await rm(join(host.root, 'run'), { recursive: true });
    return host;
  };

  /** Writes until nothing more fits. */
  const fill = (host: TestHost, folder: string): void => {
    const filler = join(host.root, folder, 'filler');
    writeFileSync(filler, '');
    for (const sizeBytes of [1 << 20, 4096]) {
      try {
        for (;;) appendFileSync(filler, new Uint8Array(sizeBytes));
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' });
      }
    }
  };
  const empty = (host: TestHost, folder: string) => rm(join(host.root, folder, 'filler'));

  /** Somebody else fills the disk when so much of the artifact has come. */
  const filledAt = (host: TestHost, percent: number): TestHost['http'] => ({
    get: async (url, request) => {
      const response = await host.site.get(url, request);
      if (!url.includes('.tar.zst')) return response;
      return { ...response, body: inPieces(response, percent, () => fill(host, 'data')) };
    },
  });

  test('T30 full before the first byte: refused by what is free, what is unpacked included', async () => {
    const host = await mounted('data', 40);
    fill(host, 'data');
    await expectGivenUp(host, 'NO_SPACE');
    expect(host.site.requests.filter((path) => path.includes('.tar.zst'))).toEqual([]);
    await empty(host, 'data');
    host.site.publish(await releaseOf(bench, largeArchive(), { unpacked_size_bytes: 30 << 20 }));
    await expectGivenUp(host, 'NO_SPACE');
  });

  test.each([50, 99])(
    'T30 full when %s percent have come: given up, and gone on with once there is room',
    async (percent) => {
      const host = await mounted('data', 40);
      const ports = { http: filledAt(host, percent) };
      await expectGivenUp(host, 'NO_SPACE', { ports, except: ['data/filler'] });
      await empty(host, 'data');
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
    },
  );

  test('T30 full while the component is unpacked', async () => {
    const host = await mounted('data', 40);
    const extract: TestHost['archive']['extract'] = async (...args) => {
      fill(host, 'data');
      return host.archive.extract(...args);
    };
    await expectGivenUp(host, 'NO_SPACE', { ports: { archive: { extract } }, except: ['data/filler'] });
    await empty(host, 'data');
    expect(await codeOf(() => install(host, {}, {}))).toBeNull();
  });

  test('T30 read-only /data', async () => {
    const host = await mounted('data', 40);
    execFileSync('mount', ['-o', 'remount,ro', join(host.root, 'data')]);
    await expectGivenUp(host, 'IO');
    execFileSync('mount', ['-o', 'remount,rw', join(host.root, 'data')]);
    expect(await codeOf(() => install(host, {}, {}))).toBeNull();
  });

  test('T30 no room for the journal: nothing is begun, and that the record is not kept is in the log', async () => {
    const host = await mounted('quantix', 1);
    fill(host, 'quantix');
    expect(await codeOf(() => install(host, {}, {}))).toBe('NO_SPACE');
    expect(host.log.lines.filter(({ event }) => event === 'audit_not_kept').length).toBeGreaterThan(0);
    expect(host.site.requests.filter((path) => path.includes('.tar.zst'))).toEqual([]);
    expect((await installedBytes(host.root))['qx-console']).toBe('1.0.0');
    await empty(host, 'quantix');
    expect((await readAudit(host.files)).verdict.ok).toBe(true);
    expect(await codeOf(() => install(host, {}, {}))).toBeNull();
  });

  test('T30 a journal that cannot be begun is refused, and that is one event', async () => {
    const host = await bench.host([made.release]);
    const writeAtomic: TestHost['files']['writeAtomic'] = async (path, ...rest) => {
      if (path.endsWith('ab-update-state.json')) throw eio();
      return host.files.writeAtomic(path, ...rest);
    };
    const files = { ...host.files, writeAtomic };
    await expectRefusal(host, 'IO', () => install({ ...host, files }, {}, {}));
  });

  describe('T30 EIO, once, at one of the writes of a whole update', () => {
    test.each(Array.from({ length: 14 }, (_, i) => i * 4 + (i % 4)))('T30 at number %s', async (count) => {
      const releases = [await fullRelease(bench, '2.0.0')];
      const host = await bench.host(releases);
      const code = await codeOf(() => install(brokenAt(host, count), {}, {}));
      const refusals = (await readAudit(host.files)).events.filter((event) => event.code !== undefined);
      expect(refusals.map((event) => event.code)).toEqual(code === null ? [] : ['IO']);
      const { state } = await bootState(host.root);
      for (const slot of okSlots(state)) expect(systemOn(host.root, slot, bench.known())).not.toBeNull();
      expect(await installedBytes(host.root)).toEqual(componentsOf(code === null ? '2.0.0' : '1.0.0'));
      const after = await openHost({ root: host.root, site: memorySite(...releases) });
      if (code !== null) expect(await codeOf(() => install(after, {}, {}))).toBeNull();
      expect(await installedBytes(host.root)).toEqual(componentsOf('2.0.0'));
    });
  });
});

async function* inPieces(
  { body }: HttpResponse,
  percent: number,
  then: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  const whole = Buffer.concat(chunks);
  const at = Math.floor((whole.length * percent) / 100);
  for (let from = 0; from < at; from += PIECE_BYTES) yield whole.subarray(from, Math.min(at, from + PIECE_BYTES));
  then();
  yield whole.subarray(at);
}

const eio = (): Error => Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO', syscall: 'write' });

const WRITES: ReadonlySet<PropertyKey> = new Set(['append', 'write', 'writeAtomic', 'duplicate', 'rename', 'extract']);

/** The medium fails one of the writes and then goes on: staging, components and slot alike. */
function brokenAt(host: TestHost, count: number): TestHost {
  const state = { writes: 0 };
  const broken = <T extends object>(port: T): T =>
    new Proxy(port, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          if (WRITES.has(name) && state.writes++ === count) return Promise.reject(eio());
          const result: unknown = Reflect.apply(member, target, args);
          return name === 'openPart' || name === 'openForWriting' ? (result as Promise<object>).then(broken) : result;
        };
      },
    });
  return { ...host, files: broken(host.files), archive: broken(host.archive), disk: broken(host.disk) };
}
