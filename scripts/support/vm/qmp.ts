import { once } from 'node:events';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';

/** QEMU's machine protocol: one JSON document a line. */
export interface Qmp {
  /** @throws Error with QEMU's own words, or when QEMU is gone */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>;
}

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
}

/** Answers come in the order of the commands; events come in between and are of no interest. */
export async function qmpOn(socket: Socket): Promise<Qmp> {
  const waiting: ((answer: Answer) => void)[] = [];
  const lines = createInterface({ input: socket });
  const greeted = once(lines, 'line');
  lines.on('line', (line) => {
    const answer: Answer = JSON.parse(line);
    if ('return' in answer || 'error' in answer) waiting.shift()?.(answer);
  });
  socket.on('close', () => {
    for (const answered of waiting.splice(0)) answered({ error: { desc: 'QEMU ended' } });
  });
  await greeted;
  const execute: Qmp['execute'] = async (command, args = {}) => {
    const answer = await new Promise<Answer>((resolve) => {
      if (socket.destroyed) return resolve({ error: { desc: 'QEMU ended' } });
      waiting.push(resolve);
      socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
    if (answer.error) throw new Error(`${command}: ${answer.error.desc}`);
    return answer.return;
  };
  await execute('qmp_capabilities');
  return { execute };
}
