import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import { Value } from 'typebox/value';
import { onTestFinished } from 'vitest';
import { HostOrder, PlanRequest } from '../../src/format/control-plane.ts';
import type { ControlPlanePlan } from '../../src/format/drain-plan.ts';
import type { DrainProgress } from '../../src/format/maintenance.ts';

/**
 * A control plane as the update server expects one. Its VMs are processes, and moving one means that another process runs on
 * another host before the first one ends.
 */

interface Vm {
  readonly name: string;
  readonly pid: number;
  /** Why it can run nowhere else; null when it can. */
  readonly pinned: string | null;
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
  /** Every host whose plan was asked for, as the update server describes it. */
  readonly planned: readonly PlanRequest[];
  /** Starts a VM on a host; `pinned` says why it cannot leave it. */
  run(host: string, vm: string, pinned?: string): Promise<void>;
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
  const planned: PlanRequest[] = [];
  const vmsOf = (host: string): Map<string, Vm> => running.get(host) ?? new Map();

  const start = (name: string, pinned: string | null): Vm => {
    const child = execa('sleep', ['600'], { reject: false });
    return {
      name,
      pid: child.pid ?? 0,
      pinned,
      stop: async () => {
        child.kill('SIGKILL');
        await child;
      },
    };
  };
  /** `promised`: what else will be on a host. */
  const freeHost = (from: string, promised: ReadonlyMap<string, number> = new Map()): string | undefined =>
    hosts.find(
      ({ name, room }) => name !== from && !cordoned.has(name) && vmsOf(name).size + (promised.get(name) ?? 0) < room,
    )?.name;

  /** Answers why it did not. */
  const move = async (vm: Vm, from: string): Promise<string | null> => {
    const to = freeHost(from);
    if (vm.pinned !== null || to === undefined) return vm.pinned ?? NO_ROOM;
    vmsOf(to).set(vm.name, start(vm.name, null));
    await vm.stop();
    vmsOf(from).delete(vm.name);
    return null;
  };

  const plan = (from: string): ControlPlanePlan => {
    const promised = new Map<string, number>();
    const vms = [...vmsOf(from).values()].map(({ name: vm, pinned }) => {
      const target_node = pinned === null ? (freeHost(from, promised) ?? null) : null;
      if (target_node === null) return { vm, target_node, reason: pinned ?? NO_ROOM };
      promised.set(target_node, (promised.get(target_node) ?? 0) + 1);
      return { vm, target_node };
    });
    return { vms, blocks: vms.flatMap(({ vm, reason }) => (reason === undefined ? [] : [{ vm, reason }])) };
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
      const reason = await move(vm, node_id);
      if (reason !== null) failed.push({ vm: vm.name, reason });
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
    const [, host = '', kind = ''] = PATH.exec(request.url ?? '') ?? [];
    const order: unknown = JSON.parse(body);
    const isAbout = isSigned(secret, request, body) && Value.Check(PlanRequest, order) && order.node_id === host;
    if (kind === 'drain-plan' && refusal === null && isAbout) {
      planned.push(order);
      if (!running.has(host)) return void response.writeHead(404).end();
      return void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(plan(host)));
    }
    if (refusal !== null || !isAbout || !Value.Check(HostOrder, order)) {
      return void response.writeHead(refusal ?? 401).end();
    }
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
    planned,
    run: async (host, vm, pinned) => void vmsOf(host).set(vm, start(vm, pinned ?? null)),
    on: (host) => [...vmsOf(host).values()].filter(({ pid }) => isAlive(pid)).map(({ name }) => name),
    isCordoned: (host) => cordoned.has(host),
    goDown,
    comeUp,
  };
}

const PATH = /^\/api\/nodes\/([^/]+)\/(drain|uncordon|drain-plan)$/;
const NO_ROOM = 'no other host has room';
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
