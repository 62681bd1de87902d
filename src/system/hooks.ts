import type { Hooks, Process } from '../ports.ts';
import { hostPath } from './host-path.ts';

/** Programs of the operator's, of the host below `root`. */
export const hostHooks = (root: string, runner: Process): Hooks => ({
  run: (path, { args = [], ...options }) => runner.run([hostPath(root, path), ...args], options),
});
