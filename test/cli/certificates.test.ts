import { expect, test } from 'vitest';
import { keepRenewed, type Tls } from '../../src/cli/certificates.ts';
import { QxError } from '../../src/errors.ts';
import { steppedClock } from '../support/agent-host.ts';
import { authority } from '../support/certificates.ts';
import { recordedLog } from '../support/fakes.ts';

/** Files of a certificate that somebody exchanges, looked at every minute. */

const ours = await authority('ours');
const files = async (days: number): Promise<Tls> => {
  const { cert, key } = await ours.issue('127.0.0.1', days);
  return { cert: Buffer.from(cert), key: Buffer.from(key) };
};

test('new files are taken once, unreadable ones are told once, and the end is warned of once a day', async () => {
  const log = recordedLog();
  const clock = steppedClock(new Date().toISOString());
  const now: { read: () => Tls } = { read: () => old };
  const [old, fresh] = [await files(30), await files(60)];
  const taken: Tls[] = [];
  const renewal = keepRenewed(old, { load: async () => now.read(), take: (tls) => void taken.push(tls), clock, log });
  const told = () => log.lines.map(({ event }) => event);
  await renewal.look();
  expect([taken, told()]).toEqual([[], []]);
  now.read = () => {
    throw new QxError('CONFIG_INVALID', 'there is no file /etc/tls.crt');
  };
  await renewal.look();
  await renewal.look();
  expect(told()).toEqual(['certificate_not_taken']);
  expect(renewal.state()).toMatchObject({ fault: 'there is no file /etc/tls.crt' });
  now.read = () => fresh;
  await renewal.look();
  await renewal.look();
  expect([taken, told()]).toEqual([[fresh], ['certificate_not_taken', 'certificate_renewed']]);
  expect(renewal.state().fault).toBeNull();
  clock.advance(47 * 86_400_000);
  for (let hour = 0; hour < 30; hour++) {
    await renewal.look();
    clock.advance(3_600_000);
  }
  expect(told().filter((event) => event === 'certificate_expires')).toHaveLength(2);
});
