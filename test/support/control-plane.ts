import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import { Value } from 'typebox/value';
import { onTestFinished } from 'vitest';
import { HostOrder } from '../../src/format/control-plane.ts';
import type { DrainProgress } from '../../src/format/maintenance.ts';

/**
 * A control plane as the update server expects one. Its VMs are processes, and moving one means that another process runs on
 * another host before the first one ends.
 */

interface Vm {
  readonly name: string;
  readonly pid: number;
  readonly stop: () => Promise<void>;
}

export interface ControlPlaneHost {
  readonly name: string;
  /** How many VMs fit. */
  readonly room: number;
}

export interface ControlPlane {
  readonly url: string;
  /** Every order that it took: `drain a 1`, and the id under which it came. */
  readonly taken: readonly { readonly what: string; readonly id: string }[];
  /** Starts a VM on a host. */
  run(host: string, vm: string): Promise<void>;
  /** Names of the VMs whose processes are alive on a host. */
  on(host: string): readonly string[];
  isCordoned(host: string): boolean;
  /** Nothing answers on its port. */
  goDown(): Promise<void>;
  comeUp(): Promise<void>;
}

interface Options {
  readonly secret: string;
  readonly hosts: readonly ControlPlaneHost[];
  readonly report: (progress: DrainProgress) => Promise<unknown>;
  /** Answers this instead of taking an order. */
  readonly refuse?: () => number | null;
}

export async function startControlPlane({
  secret,
  hosts,
  report,
  refuse = () => null,
}: Options): Promise<ControlPlane> {
  const running = new Map(hosts.map(({ name }) => [name, new Map<string, Vm>()]));
  const cordoned = new Set<string>();
  const seen = new Set<string>();
  const taken: { what: string; id: string }[] = [];
  const vmsOf = (host: string): Map<string, Vm> => running.get(host) ?? new Map();

  const start = (name: string): Vm => {
    const child = execa('sleep', ['600'], { reject: false });
    return {
      name,
      pid: child.pid ?? 0,
      stop: async () => {
        child.kill('SIGKILL');
        await child;
      },
    };
  };
  const freeHost = (): string | undefined =>
    hosts.find(({ name, room }) => !cordoned.has(name) && vmsOf(name).size < room)?.name;

  const move = async (vm: Vm, from: string): Promise<boolean> => {
    const to = freeHost();
    if (to === undefined) return false;
    vmsOf(to).set(vm.name, start(vm.name));
    await vm.stop();
    vmsOf(from).delete(vm.name);
    return true;
  };

  const drain = async ({ node_id, maintenance_id, epoch }: HostOrder): Promise<void> => {
    const all = [...vmsOf(node_id).values()];
    const failed: { vm: string; reason: string }[] = [];
    const told = (more: Partial<DrainProgress>) => {
      const remaining_vms = [...vmsOf(node_id).keys()];
      const counts = { total_vms: all.length, migrated_vms: all.length - remaining_vms.length };
      return report({
        node_id,
        maintenance_id,
        epoch,
        ...counts,
        remaining_vms,
        failed_vms: failed,
        completed: false,
        ...more,
      });
    };
    for (const vm of all) {
      if (!(await move(vm, node_id))) failed.push({ vm: vm.name, reason: 'no other host has room' });
      await told({});
    }
    if (failed.length === 0) await told({ completed: true });
  };

  const obey = (kind: string, order: HostOrder): void => {
    if (kind === 'uncordon') return void cordoned.delete(order.node_id);
    cordoned.add(order.node_id);
    // A report that is refused is the update server's business; a control plane would try it again.
    void drain(order).catch(() => undefined);
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(request);
    const refusal = refuse();
    const [, host = '', kind = ''] = /^\/api\/nodes\/([^/]+)\/(drain|uncordon)$/.exec(request.url ?? '') ?? [];
    const order: unknown = JSON.parse(body);
    const isSound = isSigned(secret, request, body) && Value.Check(HostOrder, order) && order.node_id === host;
    if (refusal !== null || !isSound) return void response.writeHead(refusal ?? 401).end();
    const id = String(request.headers['webhook-id']);
    taken.push({ what: `${kind} ${host} ${order.epoch}`, id });
    response.writeHead(202).end('{}');
    // Once is enough, however often it comes.
    if (!seen.has(id)) obey(kind, order);
    seen.add(id);
  };

  const state = { server: createServer(), port: 0 };
  const comeUp = async (): Promise<void> => {
    state.server = createServer((request, response) => void answer(request, response).catch(() => response.destroy()));
    await new Promise<void>((resolve) => state.server.listen(state.port, '127.0.0.1', resolve));
    state.port = (state.server.address() as AddressInfo).port;
  };
  const goDown = async (): Promise<void> => {
    state.server.closeAllConnections();
    await new Promise((resolve) => state.server.close(resolve));
  };
  await comeUp();
  onTestFinished(async () => {
    await goDown();
    await Promise.all([...running.values()].flatMap((vms) => [...vms.values()].map(({ stop }) => stop())));
  });
  return {
    url: `http://127.0.0.1:${state.port}/api`,
    taken,
    run: async (host, vm) => void vmsOf(host).set(vm, start(vm)),
    on: (host) => [...vmsOf(host).values()].filter(({ pid }) => isAlive(pid)).map(({ name }) => name),
    isCordoned: (host) => cordoned.has(host),
    goDown,
    comeUp,
  };
}

const TOLERANCE_S = 300;

function isSigned(secret: string, { headers }: IncomingMessage, body: string): boolean {
  const [id, timestamp, signature] = ['id', 'timestamp', 'signature'].map((name) => String(headers[`webhook-${name}`]));
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false;
  const right = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64');
  const [sent, expected] = [signature ?? '', `v1,${right}`].map((one) => Buffer.from(one));
  return sent?.length === expected?.length && timingSafeEqual(sent as Buffer, expected as Buffer);
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};
