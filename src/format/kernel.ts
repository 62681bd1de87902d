/**
 * Which processor a Linux kernel is for, told by its first bytes: an EFI program says it in its PE header (whatever Linux starts
 * on a UEFI is one, compressed or not), others in the header of the boot protocol of their architecture
 * (Documentation/arch/x86/boot.rst, arm64/booting.rst, riscv/boot-image-header.rst of Linux).
 */

export const KERNEL_HEAD_BYTES = 4096;

const PE_MACHINES: Readonly<Record<number, string>> = {
  332: 'i386',
  450: 'arm',
  20580: 'riscv64',
  25188: 'loongarch64',
  34404: 'x86_64',
  43620: 'aarch64',
};

/** `loadflags` of the x86 boot protocol: the kernel has a 64-bit entry point. */
const XLF_KERNEL_64 = 1;

/** As `uname -m` says it; null when this is no kernel that anybody here knows. */
export function kernelMachine(head: Uint8Array): string | null {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const has = (at: number, bytes: number): boolean => at + bytes <= head.length;
  const u16 = (at: number): number => (has(at, 2) ? view.getUint16(at, true) : 0);
  const text = (at: number, length: number): string =>
    has(at, length) ? String.fromCharCode(...head.subarray(at, at + length)) : '';
  const peAt = has(0x3c, 4) ? view.getUint32(0x3c, true) : 0;
  if (text(0, 2) === 'MZ' && text(peAt, 4) === 'PE\0\0') return PE_MACHINES[u16(peAt + 4)] ?? 'unknown';
  if (u16(0x1fe) === 0xaa55 && text(0x202, 4) === 'HdrS') return (u16(0x236) & XLF_KERNEL_64) === 0 ? 'i386' : 'x86_64';
  if (text(0x38, 4) === 'ARM\x64') return 'aarch64';
  if (text(0x30, 5) === 'RISCV') return 'riscv64';
  return null;
}
