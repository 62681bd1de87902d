/** The first bytes of kernels, as the boot protocols have them; nothing behind them would run. */

export type KernelKind = 'bzImage' | 'bzImage without a 64-bit entry' | 'arm64 Image' | 'riscv Image' | `EFI ${number}`;

export function kernelHead(kind: KernelKind): Uint8Array {
  const head = new Uint8Array(1024);
  const view = new DataView(head.buffer);
  const put = (at: number, text: string): void => head.set(new TextEncoder().encode(text), at);
  if (kind.startsWith('bzImage')) {
    view.setUint16(0x1fe, 0xaa55, true);
    put(0x202, 'HdrS');
    view.setUint16(0x236, kind === 'bzImage' ? 0x7f : 0x02, true);
  } else if (kind === 'arm64 Image') {
    put(0x38, 'ARMd');
  } else if (kind === 'riscv Image') {
    put(0x30, 'RISCV');
  } else {
    put(0, 'MZ');
    view.setUint32(0x3c, 0x80, true);
    put(0x80, 'PE\0\0');
    view.setUint16(0x84, Number(kind.slice('EFI '.length)), true);
  }
  return head;
}
