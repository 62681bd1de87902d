import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { JourneyServer } from './journey-server.ts';
import { TOKEN } from './journey-server.ts';

/** The desk of a release engineer: keys, and releases made, signed and published with the built qx-release. */

export interface Desk {
  readonly keyring: string;
  readonly privateKey: string;
  publish(server: Pick<JourneyServer, 'url'>, release: Release): Promise<void>;
  /** The offline bundle of what was published under this version. */
  bundle(version: string): Promise<string>;
  /** A qx-console that is as ours and says this version. */
  console(version: string): Promise<string>;
  page(version: string): Promise<string>;
  /** A program of this text. */
  script(name: string, text: string): Promise<string>;
}

export interface Release {
  readonly version: string;
  /** Name -> the file or folder that it is made of. */
  readonly components?: Readonly<Record<string, string>>;
  readonly image?: string;
}

export async function releaseDesk(folder: string): Promise<Desk> {
  const at = (...names: string[]): string => join(folder, ...names);
  const keyring = at('keyring.json');
  await qxRelease('keygen', '--key-id', 'journey', '--kind', 'development', '--out', folder, '--keyring', keyring);
  const published = new Map<string, readonly string[]>();
  const script = async (name: string, text: string): Promise<string> => {
    await writeFile(at(name), text, { mode: 0o755 });
    return at(name);
  };
  return {
    keyring,
    privateKey: at('journey.private.json'),
    publish: async (server, release) =>
      void published.set(release.version, await publish(folder, keyring, server, release)),
    bundle: async (version) => {
      const out = at(`${version}.qxb`);
      await qxRelease('bundle', ...(published.get(version) ?? []), '--keyring', keyring, '--out', out);
      return out;
    },
    script,
    console: async (version) => {
      const ours = await readFile('openrc/qx-console', 'utf8');
      return script(`qx-console-${version}`, ours.replace(/^VERSION=.*$/m, `VERSION=${version}`));
    },
    page: async (version) => {
      await cp('src/ui/host', at(`page-${version}`), { recursive: true });
      await writeFile(at(`page-${version}`, 'index.html'), `<!doctype html><title>Host ${version}</title>\n`);
      return at(`page-${version}`);
    },
  };
}

/** Answers the files that were published, the manifest first. */
async function publish(
  folder: string,
  keyring: string,
  { url }: Pick<JourneyServer, 'url'>,
  { version, components = {}, image }: Release,
): Promise<readonly string[]> {
  const out = join(folder, `release-${version}`);
  await mkdir(out);
  const manifest = join(out, 'manifest.json');
  const files: string[] = [];
  const described: string[] = [];
  for (const [name, source] of Object.entries(components)) {
    await qxRelease('pack', source, '--name', name, '--out', out);
    files.push(join(out, `${name}.tar.zst`));
    described.push('--component', `${name}=${join(out, `${name}.tar.zst`)}`);
  }
  if (image !== undefined) described.push('--image', image);
  await qxRelease('manifest', '--version', version, '--channel', 'dev', ...described, '--out', manifest);
  await qxRelease('sign', manifest, '--key', join(folder, 'journey.private.json'), '--keyring', keyring);
  if (image !== undefined) files.push(image);
  files.unshift(join(out, 'manifest.signed.json'));
  await qxRelease('publish', ...files, '--keyring', keyring, '--server', url);
  return files;
}

const qxRelease = (...args: string[]) =>
  execa('dist/qx-release', args, { env: { QX_TOKEN: TOKEN }, stdin: 'ignore', all: true });
