import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, journeyImages, setOut } from '../support/journey.ts';
import { sha256Of, until } from '../support/journey-host.ts';
import { requires } from '../support/requires.ts';

requires(JOURNEY)('a server that dies in the middle of a download', () => {
  const imageOf = journeyImages();

  test('and comes back: what was there is not fetched again', { timeout: JOURNEY_TIMEOUT_MS }, async () => {
    const { desk, server, line, host } = await setOut({ first: await imageOf('1.0.0') });
    const { image } = await imageOf('1.1.0');
    const { size } = await stat(image);
    await desk.publish(server, { version: '1.1.0', image });
    await host.boot();
    await host.untilAgentAnswers();

    line.stopAfter(size / 2);
    const applying = host.run('qx-update', 'apply');
    await until('half of it is on the host', async () => {
      const { output } = await host.run('sh', '-c', 'stat -c %s /data/updates/staging/*.part');
      return Number(output) > size / 3;
    });
    await server.kill();
    await sleep(2000);
    line.flow();
    await server.start();
    expect(await applying).toMatchObject({ exitCode: 4 });
    expect(await host.slotSha256('B', image)).toBe(await sha256Of(image));
    const asked = line.asked.filter((request) => request.includes(basename(image)));
    const [first, ...resumed] = asked.map((request) => Number(/ bytes=([0-9]+)-/.exec(request)?.[1] ?? 0));
    expect(first).toBe(0);
    expect(resumed.length).toBeGreaterThan(0);
    // More than one where the server takes its time to come back.
    for (const from of resumed) expect(from).toBeGreaterThan(size / 3);
  });
});
