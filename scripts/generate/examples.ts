import { createHash } from 'node:crypto';
import { KNOWN_COMPONENTS } from '../../src/cli/release/components.ts';
import { toBytes } from '../../src/cli/release/documents.ts';
import type { Component, Manifest, Product } from '../../src/format/manifest.ts';

/** Hash and size of this very text, so that no example shows a hash that could not be one. */
function artifactOf(artifact: string) {
  const bytes = toBytes(`an example of ${artifact}\n`);
  return { artifact, sha256: createHash('sha256').update(bytes).digest('hex'), size_bytes: bytes.length };
}

function componentOf(product: Product, name: string, version: string, more: Partial<Component> = {}): Component {
  const known = KNOWN_COMPONENTS[product][name];
  if (known === undefined) throw new Error(`${name} is no component of ${product}`);
  return {
    name,
    version,
    ...artifactOf(`${name}.tar.zst`),
    ...known,
    backup_before_update: true,
    permissions: '0755',
    ...more,
  };
}

const headOf = <const H extends Pick<Manifest, 'product' | 'version' | 'channel'>>(head: H) => ({
  ...head,
  release_date: '2026-11-01T12:00:00Z',
});

const counted = { format: 1, sequence: Date.parse('2026-11-01T12:00:00Z') / 1000 } as const;

const component: Manifest = {
  ...headOf({ product: 'quantix-os', version: '1.2.0', channel: 'dev' }),
  update_type: 'component',
  components: [
    componentOf('quantix-os', 'qx-node', '1.2.0'),
    componentOf('quantix-os', 'qx-console', '1.1.0'),
    componentOf('quantix-os', 'host-ui', '1.2.0', { dependencies: [{ name: 'qx-node', min_version: '1.2.0' }] }),
  ],
  min_version: '1.0.0',
  release_notes: 'Three components, installed without a reboot.',
  ...counted,
};

const full: Manifest = {
  ...headOf({ product: 'quantix-os', version: '1.3.0', channel: 'stable' }),
  update_type: 'full',
  components: [componentOf('quantix-os', 'qx-node', '1.3.0')],
  full_image: { ...artifactOf('system.squashfs'), requires_reboot: true, target_slot: 'auto' },
  min_version: '1.0.0',
  release_notes: 'A new image for the inactive slot, and the agent that goes with it.',
  ...counted,
  expires_at: '2027-01-30T12:00:00Z',
  compatible: ['x86_64'],
  min_rollback_version: '1.1.0',
};

const vdc: Manifest = {
  ...headOf({ product: 'quantix-vdc', version: '1.2.0', channel: 'beta' }),
  update_type: 'component',
  components: [
    componentOf('quantix-vdc', 'controlplane', '1.2.0'),
    componentOf('quantix-vdc', 'dashboard', '1.2.0'),
    componentOf('quantix-vdc', 'migrations', '1.2.0'),
  ],
  release_notes: 'A control plane whose database has to be migrated.',
  ...counted,
  requires_db_migration: true,
};

/** Path from the top of the repository -> text, of every example manifest. */
export const exampleFiles = (): Map<string, string> =>
  new Map(
    Object.entries({ component, full, vdc }).map(([name, manifest]) => [
      `examples/${name}.manifest.json`,
      `${JSON.stringify(manifest, null, 2)}\n`,
    ]),
  );
