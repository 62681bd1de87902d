/** The kernel's routing tables, as /proc/net shows them. */

const UP = 0x1;
const REJECT = 0x200;

/** /proc/net/route: interface, destination, gateway, flags, three counters, mask; in hexadecimal. */
export const hasDefaultRoute4 = (text: string): boolean =>
  rowsOf(text).some(([, destination, , flags = '', , , , mask]) => {
    return destination === '00000000' && mask === '00000000' && leadsOut(flags);
  });

/** /proc/net/ipv6_route: destination, prefix length, source, prefix length, gateway, three counters, flags, interface. */
export const hasDefaultRoute6 = (text: string): boolean =>
  rowsOf(text).some(([destination, length, , , , , , , flags = '', name]) => {
    return destination === '0'.repeat(32) && length === '00' && name !== 'lo' && leadsOut(flags);
  });

const rowsOf = (text: string): readonly (readonly string[])[] =>
  text.split('\n').map((line) => line.trim().split(/\s+/));

/** The kernel has a route for everything that leads nowhere, until there is a better one. */
function leadsOut(flags: string): boolean {
  const bits = Number.parseInt(flags, 16);
  return (bits & UP) !== 0 && (bits & REJECT) === 0;
}
