import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';

/** `/quantix/limiquantix/baseline.json`: what held on this host before an update; its trial is held against it. */

export const BASELINE_PATH = '/quantix/limiquantix/baseline.json';

export const Baseline = Type.Object({
  format: Type.Literal(1),
  /** Of the update that it was taken for. */
  id: Type.String(),
  taken_at: Type.String(),
  /** In words that stay the same over a reboot: `service sshd`, `bridge br0`, `default route (IPv4)`, `10-vms: web1`. */
  facts: Type.Array(Type.String()),
  /** Somebody out there answered. */
  contact: Type.Boolean(),
});
export type Baseline = Static<typeof Baseline>;

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readBaseline = (bytes: Uint8Array): Baseline =>
  readVersioned(bytes, Baseline, BASELINE_PATH, 'the next trial is then held against nothing');
