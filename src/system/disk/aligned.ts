/**
 * Memory for O_DIRECT, which wants offset, length and memory in multiples of the device's block. Node's own buffers begin 16
 * bytes into a page and are refused (EINVAL on every loop device that was tried); a resizable ArrayBuffer is mapped by
 * itself, so it begins a page.
 */

/** A multiple of every block size in use. */
export const ALIGNMENT_BYTES = 4096;

export const alignedMemory = (sizeBytes: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(new ArrayBuffer(sizeBytes, { maxByteLength: sizeBytes }));

export const isAligned = (value: number): boolean => value % ALIGNMENT_BYTES === 0;
