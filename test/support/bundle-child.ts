import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { bundleWriter } from '../../src/system/bundle/write.ts';
import { operatorBundles } from '../../src/system/bundle.ts';

/** Makes a bundle of one artifact, reads it all again, and prints the most memory that it ever had, in KiB. */

const [, , artifact = '', target = ''] = process.argv;

const seen = { hash: createHash('sha256'), sizeBytes: 0 };
for await (const piece of createReadStream(artifact)) {
  seen.hash.update(piece);
  seen.sizeBytes += piece.length;
}
const envelope = { name: 'manifest.signed.json', sizeBytes: 2, content: Buffer.from('{}') };
const sha256 = seen.hash.digest('hex');
const members = [envelope, { name: 'image', sizeBytes: seen.sizeBytes, sha256, content: { path: artifact } }];
await bundleWriter().write(target, members, () => undefined);

const bundle = await operatorBundles().open(target);
const again = createHash('sha256');
for await (const piece of bundle.read('image', 0)) again.update(piece);
await bundle.close();
if (again.digest('hex') !== sha256) throw new Error('other bytes came out than went in');
process.stdout.write(`${process.resourceUsage().maxRSS}\n`);
