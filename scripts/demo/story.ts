import { copyFile, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { bigHost } from './big-host.ts';
import type { DemoHost } from './host.ts';
import { plainHost } from './plain-host.ts';
import { makeKeys, type Published, publish } from './release.ts';
import { startServer } from './server.ts';
import { chapter, proven, say, sha256Of } from './show.ts';

/** The main job from its beginning to its end, on real input. Every claim that it prints was tested just before. */
export async function tell(folder: string, signal: AbortSignal): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  const stop = () => signal.throwIfAborted();

  chapter('1. Keys, and an executable that trusts them');
  const keys = await makeKeys(folder);
  stop();

  chapter('2. An update server, on loopback and with its defaults');
  await using server = await startServer(folder);
  stop();

  chapter('3. A host that runs release 1.0.0');
  await using host: DemoHost = await (isRoot ? bigHost : plainHost)(folder, server.url, signal);
  for (const line of host.description) say(line);
  stop();

  chapter('4. Release 1.1.0: qx-node, qx-console, host-ui and a full image, signed and published');
  const image = await host.nextImage('1.1.0');
  const release = await publish({ folder, keys, server, version: '1.1.0', image });
  stop();

  await install(host, release);
  stop();
  await goodBoot(host);
  stop();

  chapter('7. Release 1.2.0 does not come up: three bad boots, then the old slot');
  await publish({ folder, keys, server, version: '1.2.0', image: await padded(image) });
  await badBoots(host);
  stop();

  chapter('8. A release that somebody tampered with');
  await refuseTampered(host, server.releases);

  whatNext();
}

/** Another image for less than a second of work: what lies behind a squashfs is not part of it. */
async function padded(image: string): Promise<string> {
  const other = image.replace(/\.squashfs$/, '-padded.squashfs');
  await copyFile(image, other);
  await truncate(other, (await stat(image)).size + 4096);
  return other;
}

async function install(host: DemoHost, release: Published): Promise<void> {
  chapter('5. The host: check, plan, apply');
  await host.show('qx-update', 'check');
  await host.show('qx-update', 'plan');
  const servicesBefore = await host.servicePids();
  const exitCode = await host.show('qx-update', 'apply');
  proven('apply ended with exit code 4: reboot required', exitCode === 4);

  for (const [path, source] of Object.entries(release.files)) {
    proven(
      `${path} holds the new bytes (sha256 ${(await sha256Of(source)).slice(0, 16)}...)`,
      (await host.sha256(path)) === (await sha256Of(source)),
    );
  }
  proven(
    'slot B holds the image, byte for byte',
    (await host.slotSha256('B', release.image)) === (await sha256Of(release.image)),
  );
  for (const [service, pid] of Object.entries(servicesBefore)) {
    const after = await pidOtherThan(host, service, pid);
    proven(`${service} was restarted (pid ${pid} -> ${after})`, after !== '');
  }
  await host.show('qx-update', 'slots');
}

/** It first puts back the components that came with the image that failed. */
async function untilAgentAnswers(host: DemoHost): Promise<void> {
  for (let second = 0; second < 60; second++) {
    if ((await host.run('qx-update', 'status')).exitCode !== AGENT_DOWN) return;
    await sleep(1000);
  }
  throw new Error('the agent does not answer');
}

const AGENT_DOWN = 10;

/** The agent ends after it was replaced and is started again a few seconds later. */
async function pidOtherThan(host: DemoHost, service: string, before: string): Promise<string> {
  for (let second = 0; second < 30; second++) {
    const pid = (await host.servicePids())[service] ?? '';
    if (pid !== '' && pid !== before) return pid;
    await sleep(1000);
  }
  return '';
}

async function goodBoot(host: DemoHost): Promise<void> {
  chapter('6. Reboot: GRUB tries slot B, the health gate confirms it');
  const booted = await host.reboot();
  say(`GRUB booted slot ${booted.slot} with: ${booted.cmdline}`);
  proven('slot B is on trial', booted.slot === 'B' && booted.cmdline.includes('quantix.trial='));
  await host.untilConfirmed();
  await host.show('qx-update', 'status');
  await host.show('qx-update', 'slots');
  proven('slot B is marked good', (await host.environment()).get('quantix_b_ok') === '1');
}

async function badBoots(host: DemoHost): Promise<void> {
  const exitCode = await host.show('qx-update', 'apply');
  proven('apply ended with exit code 4: reboot required', exitCode === 4);
  await host.powerOff();
  for (let boot = 1; boot <= 3; boot++) {
    const { slot, cmdline } = await host.panickingBoot();
    say(`boot ${boot}: GRUB tries slot ${slot} (${/quantix\.trial=\S+/.exec(cmdline)?.[0]}); the kernel panics`);
    proven(`try ${boot} was slot A`, slot === 'A');
  }
  const { slot } = await host.reboot();
  proven('the fourth boot is slot B again', slot === 'B');
  await untilAgentAnswers(host);
  await host.show('qx-update', 'status');
  const { output } = await host.run('cat', host.path('/data/versions/qx-node.version'));
  proven('the components that came with the image were put back (qx-node is 1.1.0 again)', output.trim() === '1.1.0');
  await host.show('qx-update', 'check');
  proven('the release that failed is not tried again by itself', (await host.run('qx-update', 'check')).exitCode === 5);
}

async function refuseTampered(host: DemoHost, releases: string): Promise<void> {
  const envelope = join(releases, 'quantix-os/dev/1.2.0/manifest.signed.json');
  await copyFile(envelope, `${envelope}.before`);
  const text = await readFile(envelope, 'utf8');
  // The server itself is in the attacker's hands: one letter of the signed manifest is different.
  await writeFile(envelope, text.replace('"1.2.0"', '"1.2.1"'));
  await execa('mv', [join(releases, 'quantix-os/dev/1.2.0'), join(releases, 'quantix-os/dev/1.2.1')]);
  const exitCode = await host.show('qx-update', 'check');
  proven('refused with exit code 7: verification failed', exitCode === 7);
}

function whatNext(): void {
  chapter('Done. Try next');
  say('  ./scripts/test.sh                        every test');
  say('  ./dist/qx-update --help                  what a host administrator can do');
  say('  ./dist/qx-release --help                 what a release engineer can do');
  say('  QX_DEMO_KEEP=1 ./scripts/demo.sh         keep the folder and look around');
  say('  README.md                                the way through the house');
}
