import { fetchArtifacts } from '../../src/delivery/fetch.ts';
import { sourceOf } from '../../src/delivery/source.ts';
import type { ArtifactRef } from '../../src/format/manifest.ts';
import { hostFiles } from '../../src/system/files.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { fakeClock, fixedRandom, recordedLog } from './fakes.ts';
import { manifestOf } from './keys.ts';

/**
 * A process of its own that fetches one artifact: to be killed in the middle, or to be measured apart from the server.
 * Prints how far it is, and in the end the most memory that it ever held.
 */

const [root = '', serverUrl = '', text = ''] = process.argv.slice(2);
const artifact = JSON.parse(text) as ArtifactRef;
const http = undiciHttp();
await fetchArtifacts(
  { http, files: hostFiles(root), clock: fakeClock(), random: fixedRandom, log: recordedLog() },
  {
    source: sourceOf({ serverUrl, mirrors: [], product: 'quantix-os', channel: 'dev' }),
    manifest: manifestOf({
      update_type: 'full',
      components: [],
      full_image: { ...artifact, requires_reboot: true },
    }),
    artifacts: [artifact],
    stagingDirectory: '/data/updates/staging',
    onProgress: ({ doneBytes }) => void process.stdout.write(`${doneBytes}\n`),
  },
);
await http.close();
process.stdout.write(`most memory: ${process.resourceUsage().maxRSS} KiB\n`);
