/** Milliseconds of processor time of this process since it was begun: waiting for a busy machine does not count. */
export function cpuWatch(): () => number {
  const start = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  };
}
