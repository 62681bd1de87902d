import { join } from 'node:path';
import type { DemoServer } from './server.ts';
import { shown } from './show.ts';

export interface Keys {
  readonly privateKey: string;
  readonly keyring: string;
}

export async function makeKeys(folder: string): Promise<Keys> {
  const keyring = join(folder, 'keyring.json');
  const program = ['src/main.ts', 'qx-release'];
  await shown('node', [
    ...program,
    'keygen',
    '--key-id',
    'demo-1',
    '--kind',
    'development',
    '--out',
    folder,
    '--keyring',
    keyring,
  ]);
  await shown('npm', ['run', '--silent', 'build', '--', '--host', '--keyring', keyring]);
  await shown('dist/qx-update', ['--version']);
  return { privateKey: join(folder, 'demo-1.private.json'), keyring };
}

export interface Published {
  readonly version: string;
  readonly image: string;
  /** Path on the host -> the file here whose bytes it has to have. */
  readonly files: Readonly<Record<string, string>>;
}

export interface PublishOptions {
  readonly folder: string;
  readonly keys: Keys;
  readonly server: DemoServer;
  readonly version: string;
  readonly image: string;
}

export async function publish({ folder, keys, server, version, image }: PublishOptions): Promise<Published> {
  const out = join(folder, `release-${version}`);
  const args = ['--version', version, '--image', image, '--executable', 'dist/host/bin/qx-node', '--out', out];
  const trust = ['--key', keys.privateKey, '--keyring', keys.keyring, '--server', server.url];
  await shown('./scripts/publish-update.sh', [...args, ...trust], { env: { QX_TOKEN: server.token } });
  return {
    version,
    image,
    files: {
      '/data/bin/qx-node': 'dist/host/bin/qx-node',
      '/data/bin/qx-console': 'openrc/qx-console',
      '/data/share/quantix-host-ui/index.html': 'src/ui/host/index.html',
    },
  };
}
