import { other, type Slot } from '../../core/boot.ts';
import { LAYOUT_BYTES, layoutOf, type SlotLayout } from '../../format/slot-layout.ts';
import type { Disk } from '../../ports.ts';

/**
 * The configured layout, or the one that the host has. The running slot is asked first: its initramfs is what found a system
 * in that layout. Two empty slots are a host that was never written, which starts with the simpler layout.
 */
export async function detectLayout(
  disk: Disk,
  configured: 'auto' | SlotLayout,
  target: Slot,
  running: Slot | null,
): Promise<SlotLayout> {
  if (configured !== 'auto') return configured;
  const first = running ?? other(target);
  for (const slot of [first, other(first)]) {
    if ((await disk.device(slot)) === null) continue;
    const layout = layoutOf(await disk.readStart(slot, LAYOUT_BYTES));
    if (layout !== null) return layout;
  }
  return 'raw';
}
