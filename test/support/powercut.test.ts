import { expect, test } from 'vitest';
import { hostFiles } from '../../src/system/files.ts';
import { cutAfter, eachMoment, PowerCut } from './powercut.ts';
import { temporaryFolder } from './temp.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

test('what comes before the cut is on disk, what comes after is not, and nothing can be read any more', async () => {
  const root = await temporaryFolder();
  const { ports, effects, isOff } = cutAfter({ files: hostFiles(root) }, 1);
  await ports.files.writeAtomic('/a', bytes('1'));
  expect(isOff()).toBe(false);
  await expect(ports.files.writeAtomic('/b', bytes('2'))).rejects.toThrow(PowerCut);
  await expect(ports.files.read('/a', 10)).rejects.toThrow(PowerCut);
  await expect(ports.files.remove('/a')).rejects.toThrow(PowerCut);
  expect(effects).toEqual(['writeAtomic']);
  expect(await hostFiles(root).list('/')).toEqual(['a']);
});

test('a file that was opened before is cut off too, and a torn write leaves half of it', async () => {
  const root = await temporaryFolder();
  const { ports } = cutAfter({ files: hostFiles(root) }, 2, { torn: true });
  const part = await ports.files.openPart('/part', 0);
  await part.append(bytes('whole'));
  await expect(part.append(bytes('abcd'))).rejects.toThrow(PowerCut);
  await part.close();
  expect(Buffer.from((await hostFiles(root).read('/part', 100)) ?? []).toString()).toBe('wholeab');
});

test('each moment holds what a cut there would have left, torn or not, and the work comes to its end', async () => {
  for (const torn of [false, true]) {
    const root = await temporaryFolder();
    const found = async (): Promise<string> =>
      Buffer.from((await hostFiles(root).read('/part', 100)) ?? bytes('none')).toString();
    const moments: string[] = [];
    const files = { files: hostFiles(root) };
    const ports = eachMoment(files, async (count) => void moments.push(`${count} ${await found()}`), { torn });
    const part = await ports.files.openPart('/part', 0);
    await Promise.all([part.append(bytes('whole')), part.append(bytes('abcd'))]);
    await part.close();
    await ports.files.remove('/part');
    const [first, second] = torn ? ['wh', 'wholeab'] : ['', 'whole'];
    expect(moments).toEqual(['0 none', `1 ${first}`, `2 ${second}`, '3 wholeabcd']);
    expect(await found()).toBe('none');
  }
});
