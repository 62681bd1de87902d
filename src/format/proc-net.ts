/** The kernel's routes and neighbours: as /proc/net shows them, and where it does not, as `ip` does. */

const UP = 0x1;
const REJECT = 0x200;

/** /proc/net/route: interface, destination, gateway, flags, three counters, mask; in hexadecimal. */
const defaultRoutes4 = (text: string): readonly (readonly string[])[] =>
  rowsOf(text).filter(([, destination, , flags = '', , , , mask]) => {
    return destination === '00000000' && mask === '00000000' && leadsOut(flags);
  });

export const hasDefaultRoute4 = (text: string): boolean => defaultRoutes4(text).length > 0;

export interface Gateway {
  /** Of the interface that leads to it. */
  readonly name: string;
  readonly address: string;
}

/** Without those of lines that need none, such as a modem's. */
export const defaultGateways4 = (text: string): readonly Gateway[] =>
  defaultRoutes4(text).flatMap(([name = '', , gateway = '']) => {
    const isOne = /^[0-9A-F]{8}$/.test(gateway) && gateway !== '00000000';
    return isOne ? [{ name, address: dotted(gateway) }] : [];
  });

/** The kernel prints the bytes of an address as one number of this machine: backwards. */
const dotted = (hexadecimal: string): string => [...Uint8Array.fromHex(hexadecimal)].reverse().join('.');

const COMPLETE = 0x2;

/** /proc/net/arp: address, hardware type, flags, hardware address, mask, device. Whoever does not answer any more loses the flag. */
export const answersArp = (text: string, { name, address }: Gateway): boolean =>
  rowsOf(text).some(([ip, , flags = '', , , device]) => {
    return ip === address && device === name && (Number.parseInt(flags, 16) & COMPLETE) !== 0;
  });

/** /proc/net/ipv6_route: destination, prefix length, source, prefix length, gateway, three counters, flags, interface. */
const defaultRoutes6 = (text: string): readonly (readonly string[])[] =>
  rowsOf(text).filter(([destination, length, , , , , , , flags = '', name]) => {
    return destination === NO_ADDRESS6 && length === '00' && name !== 'lo' && leadsOut(flags);
  });

const NO_ADDRESS6 = '0'.repeat(32);

export const hasDefaultRoute6 = (text: string): boolean => defaultRoutes6(text).length > 0;

/** As `defaultGateways4`; addresses in the short form that `ip` prints. */
export const defaultGateways6 = (text: string): readonly Gateway[] =>
  defaultRoutes6(text).flatMap(([, , , , gateway = '', , , , , name = '']) => {
    const isOne = /^[0-9a-f]{32}$/.test(gateway) && gateway !== NO_ADDRESS6;
    return isOne ? [{ name, address: shortened(gateway) }] : [];
  });

const shortened = (hexadecimal: string): string => {
  const groups = hexadecimal.match(/.{4}/g) ?? [];
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
};

/** `ip -6 neigh`: address, `dev`, interface, perhaps `lladdr` and a hardware address, state last; the kernel's table of them is in no file. */
export const answersNeighbour = (text: string, { name, address }: Gateway): boolean =>
  rowsOf(text).some(([ip, , device, ...rest]) => {
    return ip === address && device === name && rest.includes('lladdr') && rest.at(-1) !== 'FAILED';
  });

const rowsOf = (text: string): readonly (readonly string[])[] =>
  text.split('\n').map((line) => line.trim().split(/\s+/));

/** The kernel has a route for everything that leads nowhere, until there is a better one. */
function leadsOut(flags: string): boolean {
  const bits = Number.parseInt(flags, 16);
  return (bits & UP) !== 0 && (bits & REJECT) === 0;
}
