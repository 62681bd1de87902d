import { appendFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { makeKeys, publish } from './demo/release.ts';
import { startServer } from './demo/server.ts';
import { chapter, say } from './demo/show.ts';
import { makeHostImage } from './support/host-image.ts';
import { makeBootableDisk } from './support/vm/disk.ts';
import { addGuest } from './support/vm/guest.ts';
import { makeInitramfs } from './support/vm/initramfs.ts';
import { debianKernel } from './support/vm/kernel.ts';
import { hardware, QEMU } from './support/vm/qemu.ts';

/** A whole host in QEMU, to log in to, and a server with a release that it may install. Root; `npm run vm` gets the rest. */

const SERVER_SEEN_FROM_INSIDE = 'http://10.0.2.2:9000';
const PORT = 8443;

const folder = await mkdtemp(join(tmpdir(), 'quantix-vm-'));
try {
  const keys = await makeKeys(folder);
  // Only now: it trusts whom the executable trusts.
  await using server = await startServer(folder);
  const kernel = await debianKernel();
  const initramfs = await makeInitramfs(folder, kernel);
  const makeImage = (version: string) =>
    makeHostImage({
      folder,
      version,
      executable: 'dist/host/bin/qx-node',
      rt: 'dist/host/rt',
      settings: `updates:\n  server_url: ${SERVER_SEEN_FROM_INSIDE}\n  auto_check: false\n  health_timeout: 180s\n`,
      kernel: { vmlinuz: kernel.vmlinuz, initramfs },
      compression: 'lzo, but for boot',
      change: async (tree) => {
        await addGuest(tree);
        await appendFile(join(tree, 'etc/inittab'), 'ttyS0::respawn:/bin/getty -n -l /bin/sh 115200 ttyS0\n');
      },
    });
  chapter('two images, which takes a while');
  const first = await makeImage('1.0.0');
  const { image } = await makeImage('1.1.0');
  await publish({ folder, keys, server, version: '1.1.0', image });
  const place = join(folder, 'machine');
  await mkdir(place);
  const { disk } = await makeBootableDisk(
    { folder: place, image: first.image, bootFolder: first.bootFolder, slotMib: 256, dataMib: 1536 },
    3,
  );
  chapter('the machine starts; its console is this terminal, Ctrl-A X switches it off');
  say('there: qx-update check; qx-update apply; qx-update reboot; qx-update status; qx-update slots');
  say(`here:  curl -k https://127.0.0.1:${PORT}/health`);
  const console = ['-chardev', 'stdio,id=console,mux=on,signal=off', '-serial', 'chardev:console', '-mon', 'console'];
  await execa(QEMU, [...hardware({ disk, forwards: { [PORT]: PORT } }), ...console], {
    stdio: 'inherit',
    reject: false,
  });
} catch (error) {
  process.exitCode = 1;
  say(`\nthe machine could not be made: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
