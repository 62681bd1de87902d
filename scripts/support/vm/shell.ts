import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/** The other end of `guest/vm-shell`. */
export interface Shell {
  /**
   * Runs a script for the guest's shell; output is both streams in one, as UTF-8, without the last newline. Scripts follow
   * each other in the order in which they were asked for.
   * @throws Error when the machine goes down meanwhile, or after timeoutMs
   */
  run(script: string, timeoutMs: number): Promise<{ exitCode: number; output: string }>;
}

export function shellOn(port: Socket): Shell {
  const lines = createInterface({ input: port });
  const ready = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      if (line.trim() === 'READY') resolve();
    });
    port.on('close', () => resolve());
  });
  const state = { id: 0, last: Promise.resolve() as Promise<unknown> };
  return {
    run: (script, timeoutMs) => {
      state.id += 1;
      const id = state.id;
      const result = state.last.then(async () => {
        if ((await Promise.race([ready, sleep(timeoutMs, 'late', { ref: false })])) === 'late') {
          throw new Error(`the machine's shell says nothing after ${timeoutMs} ms`);
        }
        return ask(port, lines, id, script, timeoutMs);
      });
      state.last = result.catch(() => undefined);
      return result;
    },
  };
}

function ask(
  port: Socket,
  lines: ReturnType<typeof createInterface>,
  id: number,
  script: string,
  timeoutMs: number,
): ReturnType<Shell['run']> {
  const line = `${id} ${Buffer.from(script).toString('base64')}\n`;
  const encoded: string[] = [];
  return new Promise((resolve, reject) => {
    const state = { isMine: false };
    const settle = (then: () => void): void => {
      lines.off('line', onLine);
      port.off('close', onClose);
      clearTimeout(timer);
      then();
    };
    const onClose = (): void => settle(() => reject(new Error(`the machine went down during: ${script}`)));
    const onLine = (raw: string): void => {
      const text = raw.trim();
      const end = /^END (\d+) (\d+)$/.exec(text);
      if (end && Number(end[1]) === id) {
        const output = Buffer.from(encoded.join(''), 'base64').toString().replace(/\n$/, '');
        settle(() => resolve({ exitCode: Number(end[2]), output }));
      } else if (text === `BEGIN ${id}`) state.isMine = true;
      else if (state.isMine) encoded.push(text);
    };
    const timer = setTimeout(
      () => settle(() => reject(new Error(`no answer in ${timeoutMs} ms to: ${script}`))),
      timeoutMs,
    );
    lines.on('line', onLine);
    port.on('close', onClose);
    if (port.destroyed) onClose();
    else port.write(line);
  });
}
