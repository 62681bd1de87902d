import { QxError } from '../../errors.ts';
import type { Component, Product } from '../../format/manifest.ts';

/** How a component is named on the command line: `qx-node=build/qx-node.tar.zst,version=1.2.0`. */
export interface ComponentSpec {
  readonly name: string;
  readonly file: string;
  /** Of the component, its defaults included; only what comes from the file itself is missing. */
  readonly fields: ComponentFields;
}

export type ComponentFields = Pick<Component, 'install_path'> &
  Partial<
    Pick<Component, 'version' | 'restart_service' | 'backup_before_update' | 'permissions' | 'dependencies' | 'kind'>
  >;

const program = (installPath: string, service: string): ComponentFields => ({
  install_path: installPath,
  restart_service: service,
  kind: 'file',
});

/** Said, because the archive cannot tell: a folder of one file and a file are packed alike. */
const folder = (installPath: string): ComponentFields => ({
  install_path: installPath,
  restart_service: null,
  kind: 'directory',
});

/** Where the components that every Quantix release has belong. */
export const KNOWN_COMPONENTS: Readonly<Record<Product, Readonly<Record<string, ComponentFields>>>> = {
  'quantix-os': {
    'qx-node': program('/data/bin/qx-node', 'quantix-node'),
    'qx-console': program('/data/bin/qx-console', 'quantix-console'),
    'host-ui': folder('/data/share/quantix-host-ui'),
    'guest-agent': folder('/data/share/quantix-agent'),
  },
  'quantix-vdc': {
    controlplane: program('/usr/bin/qx-controlplane', 'quantix-controlplane'),
    dashboard: folder('/usr/share/quantix-vdc/dashboard'),
    migrations: folder('/usr/share/quantix-vdc/migrations'),
  },
};

const usage = (reason: string): QxError =>
  new QxError('USAGE', `--component: ${reason}`, {
    next: 'NAME=FILE[,path=/data/bin/x][,service=NAME|none][,version=V][,permissions=0755][,kind=file|directory][,backup=yes|no][,needs=NAME@VERSION]',
  });

/** @throws QxError USAGE */
export function parseComponent(product: Product, text: string): ComponentSpec {
  const [head = '', ...settings] = text.split(',');
  const [name, file] = cut(head);
  const known = KNOWN_COMPONENTS[product];
  const defaults = Object.hasOwn(known, name) ? known[name] : undefined;
  const fields = Object.assign({}, defaults, ...settings.map(fieldOf)) as Partial<ComponentFields>;
  const dependencies = settings.flatMap(dependencyOf);
  if (fields.install_path === undefined) throw usage(`${name} is none that we know for ${product}: say path=... too`);
  return {
    name,
    file,
    fields: {
      ...fields,
      install_path: fields.install_path,
      ...(dependencies.length === 0 ? {} : { dependencies }),
    },
  };
}

function cut(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at <= 0 || at === text.length - 1) throw usage(`${JSON.stringify(text)} is not of the form NAME=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function fieldOf(setting: string): Partial<ComponentFields> {
  const [key, value] = cut(setting);
  switch (key) {
    case 'path':
      return { install_path: value };
    case 'service':
      return { restart_service: value === 'none' ? null : value };
    case 'version':
      return { version: value };
    case 'permissions':
      return { permissions: value };
    case 'backup':
      return { backup_before_update: oneOf(key, value, ['yes', 'no']) === 'yes' };
    case 'kind':
      return { kind: oneOf(key, value, ['file', 'directory']) };
    case 'needs':
      return {};
    default:
      throw usage(`there is no setting ${JSON.stringify(key)}`);
  }
}

function oneOf<const T extends string>(key: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw usage(`${key} is one of ${allowed.join(', ')}`);
  return found;
}

function dependencyOf(setting: string): { name: string; min_version: string }[] {
  if (!setting.startsWith('needs=')) return [];
  const [name = '', minVersion] = setting.slice('needs='.length).split('@');
  if (minVersion === undefined) throw usage('needs is of the form NAME@VERSION');
  return [{ name, min_version: minVersion }];
}
