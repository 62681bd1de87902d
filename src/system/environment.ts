import { isSea } from 'node:sea';

/**
 * What others set for programs of their own: authorities, proxies, options of Node and OpenSSL. Some of it is read before our
 * code runs, so that taking it away here would be too late.
 */
const FOREIGN = /^(?:NODE_|SSL|OPENSSL_|LD_|(?:https?|all|no|ftp)_proxy$)/i;

/** Becomes this program again, in the same process, without what it must not obey. Returns at once where there is none of it. */
export function leaveForeignEnvironment(): void {
  const kept = Object.entries(process.env).filter(([name]) => !FOREIGN.test(name));
  if (kept.length === Object.keys(process.env).length) return;
  // The name that a single executable was called by picks its program; started by Node, its first argument does.
  const called = isSea() ? [process.argv0] : [process.execPath, ...process.execArgv, ...process.argv.slice(1, 2)];
  process.execve?.(process.execPath, [...called, ...process.argv.slice(2)], Object.fromEntries(kept));
}
