/**
 * Milliseconds of processor time since it was begun: what waits for a busy machine does not count. Meant for limits that only
 * work that grows with the square of its input, or faster, can miss.
 */
export function cpuWatch(): () => number {
  const start = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  };
}
