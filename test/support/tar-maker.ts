/** Tar archives block by block, so that a test can lie in any field. */

export interface Lie {
  readonly name?: string | Buffer;
  readonly type?: string;
  readonly body?: string | Buffer;
  readonly mode?: number;
  /** What the header says, whatever the body has; a Buffer goes into the field as it is. */
  readonly size?: number | Buffer;
  readonly link?: string;
  readonly prefix?: string;
  readonly checksum?: number;
}

const octal = (value: number, length: number): string => `${value.toString(8).padStart(length - 1, '0')}\0`;

export function member(lie: Lie): Buffer {
  const body = Buffer.from(lie.body ?? '');
  const block = Buffer.alloc(512);
  block.set(Buffer.from(lie.name ?? 'file').subarray(0, 100), 0);
  block.write(octal(lie.mode ?? 0o644, 8), 100);
  block.write(`${octal(0, 8)}${octal(0, 8)}`, 108);
  if (Buffer.isBuffer(lie.size)) block.set(lie.size, 124);
  else block.write(octal(lie.size ?? body.length, 12), 124);
  block.write(octal(0, 12), 136);
  block.write(lie.type ?? '0', 156, 'latin1');
  block.write(lie.link ?? '', 157);
  block.write('ustar\x0000', 257, 'latin1');
  block.write(lie.prefix ?? '', 345);
  block.write('        ', 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${(lie.checksum ?? sum).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([block, body, Buffer.alloc((512 - (body.length % 512)) % 512)]);
}

export const END = Buffer.alloc(1024);

export const tar = (...parts: readonly (Lie | Buffer)[]): Buffer =>
  Buffer.concat([...parts.map((part) => (Buffer.isBuffer(part) ? part : member(part))), END]);

/** One PAX record with its right length. */
export function record(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
  const digits = String(rest.length + String(rest.length).length).length;
  return Buffer.concat([Buffer.from(String(rest.length + digits)), rest]);
}

export const pax = (records: Readonly<Record<string, string | Buffer>>, type: 'x' | 'g' = 'x'): Buffer =>
  member({ name: 'PaxHeader/x', type, body: Buffer.concat(Object.entries(records).map(([k, v]) => record(k, v))) });
