import { expect, test } from 'vitest';
import { kernelMachine } from '../../src/format/kernel.ts';
import { type KernelKind, kernelHead } from '../support/kernels.ts';

test.each<[KernelKind, string]>([
  ['bzImage', 'x86_64'],
  ['bzImage without a 64-bit entry', 'i386'],
  ['arm64 Image', 'aarch64'],
  ['riscv Image', 'riscv64'],
  [`EFI ${0x8664}`, 'x86_64'],
  [`EFI ${0xaa64}`, 'aarch64'],
  [`EFI ${0x1234}`, 'unknown'],
])('%s is for %s', (kind, machine) => {
  expect(kernelMachine(kernelHead(kind))).toBe(machine);
});

test('what is no kernel, or has no beginning, is for nobody', () => {
  for (const kind of ['bzImage', 'arm64 Image', `EFI ${0x8664}`] as const) {
    const head = kernelHead(kind);
    for (let length = 0; length < 0x30; length++) expect(kernelMachine(head.subarray(0, length))).toBeNull();
  }
  // A PE header that lies behind what was read.
  const far = kernelHead(`EFI ${0x8664}`);
  new DataView(far.buffer).setUint32(0x3c, 0xffff_fff0, true);
  expect(kernelMachine(far)).toBeNull();
  expect(kernelMachine(new TextEncoder().encode('#!/bin/sh\n'.repeat(100)))).toBeNull();
});
