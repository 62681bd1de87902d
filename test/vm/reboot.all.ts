import { execa } from 'execa';
import { expect, test } from 'vitest';
import { copyOut, MIB } from '../../scripts/support/machine-disk.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';
import { armedHosts } from './armed.ts';
import { COPIES, copies } from './damage.ts';
import { vmImages } from './guest.ts';
import { expectTrialKept } from './kept.ts';
import { VM } from './machine.ts';

/** Services that are put onto the running host, in its memory; what they print tells how far its reboot came. */
interface Row {
  readonly what: string;
  readonly services: Readonly<Record<string, string>>;
  /** Commands before the reboot. */
  readonly first?: string;
  /** Long enough for what comes before that on a busy machine; 5 without it. */
  readonly rebootS?: number;
}

const service = (body: string): string => `#!/sbin/openrc-run\n${body}\n`;

const ROWS: readonly Row[] = [
  {
    what: 'a service whose stop never ends',
    services: { stuck: service('start() { :; }\nstop() { sleep 1000000; }') },
  },
  {
    what: 'a service whose processes ignore that they shall end, and go on forking',
    services: {
      stuck: service(
        `start() { setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1 & wait; done' & echo $! >/run/stuck.pid; }
stop() { while kill -0 "$(cat /run/stuck.pid)"; do kill "$(cat /run/stuck.pid)"; sleep 1; done; }`,
      ),
    },
  },
  {
    what: 'a service whose stop never ends, and the agent ends with all of its control group',
    rebootS: 30,
    first: `mount -t cgroup2 none /sys/fs/cgroup && mkdir /sys/fs/cgroup/agent
cat /run/openrc/options/quantix-node/child_pid >/sys/fs/cgroup/agent/cgroup.procs
grep -q . /sys/fs/cgroup/agent/cgroup.procs`,
    services: {
      stuck: service('start() { :; }\nstop() { echo 1 >/sys/fs/cgroup/agent/cgroup.kill; sleep 1000000; }'),
    },
  },
  {
    what: 'file systems that cannot be unmounted, when all processes are killed',
    rebootS: 30,
    services: {
      killprocs: service('start() { kill_all 15; kill_all 9; }'),
      'mount-ro': service('depend() { after killprocs; }\nstart() { sleep 1000000; }'),
    },
  },
];

requires(VM)('a host that is told to reboot into the new slot', () => {
  const armed = armedHosts(vmImages());

  for (const { what, services, first = ':', rebootS = 5 } of ROWS) {
    test(`${what}: the new slot is up, and nothing that was saved is lost`, async () => {
      // Nothing is left to say what boots: slot A does, and arms the trial anew.
      const { journey } = await armed({ damage: copies(COPIES, (block) => new Uint8Array(block.length)) });
      const { host } = journey;
      expect((await host.boot()).slot).toBe('A');
      await host.untilAgentAnswers();
      const prepared = await host.run(
        'sh',
        '-euc',
        `${first}\n${Object.entries(services).map(added).join('\n')}\n${save(rebootS)}`,
      );
      expect(prepared, prepared.output).toMatchObject({ exitCode: 0 });
      await host.goDown();
      expect(await isClean(host.machine)).toBe(true);
      await expectTrialKept(journey);
      expect(await host.text('/data/saved')).toBe('saved');
    });
  }
});

const save = (rebootS: number): string => `echo reboot_s=${rebootS} >/quantix/limiquantix/quantix-boot
echo saved >/data/saved
sync`;

/** In the runlevel that its name belongs to. */
const added = ([name, script]: [string, string]): string => `cat >/etc/init.d/${name} <<'SERVICE'
${script}
SERVICE
chmod 755 /etc/init.d/${name}
${name === 'stuck' ? 'rc-update add stuck default && rc-service stuck start' : `rc-update add ${name} shutdown`}`;

/** The data partition has no journal to replay. */
async function isClean(machine: Parameters<typeof copyOut>[0]): Promise<boolean> {
  const { data } = machine.partitions;
  const image = `${await temporaryFolder()}/data`;
  await copyOut(machine, data, data.sizeMib * MIB, image);
  const { stdout } = await execa('dumpe2fs', ['-h', image]);
  return !/features:.*needs_recovery/.test(stdout);
}
