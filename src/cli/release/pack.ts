import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { QxError } from '../../errors.ts';
import { ARTIFACT_PATTERN } from '../../format/manifest.ts';
import { formatBytes } from '../render.ts';
import { examples, type Output, runs } from '../verb.ts';
import type { ReleaseProgram, ReleaseTools } from './tools.ts';

interface PackOptions {
  readonly out: string;
  readonly name?: string;
}

export function addPack(commands: Command, program: ReleaseProgram): void {
  const command = commands
    .command('pack')
    .summary('make NAME.tar.zst of a file or folder')
    .description(
      'Packs a file or a folder. The same content gives the same bytes, whoever packs it, where and when: what may be run gets the mode 0755, all else 0644.',
    )
    .argument('<source>', 'file or folder')
    .option('--out <dir>', 'folder for the archive', '.')
    .option('--name <name>', 'name without .tar.zst (default: the name of the source)')
    .addHelpText(
      'after',
      examples(
        'qx-release pack dist/host/bin/qx-node --out build/release',
        'qx-release pack src/ui/host --out build/release --name host-ui',
      ),
    );
  runs<PackOptions>(command, program, (output, options, args) => pack(program.tools, output, options, args[0] ?? ''));
}

async function pack(tools: ReleaseTools, output: Output, options: PackOptions, source: string): Promise<void> {
  const from = await tools.followed(source);
  if ((await tools.files.info(from)) === null) throw new QxError('NOT_FOUND', `there is no file or folder ${source}`);
  const artifact = `${options.name ?? basename(from)}.tar.zst`;
  if (!new RegExp(ARTIFACT_PATTERN).test(artifact)) {
    throw new QxError('USAGE', `an artifact cannot be called ${JSON.stringify(artifact)}`, {
      next: 'give it a --name',
    });
  }
  const folder = await tools.followed(options.out);
  if ((await tools.files.info(folder)) === null) await tools.files.makeDirectory(folder);
  const target = join(folder, artifact);
  const packed = await tools.pack(from, target);
  for (const { path, from, to } of packed.changedModes.slice(0, TOLD)) {
    output.note(`${path} has the mode ${octal(from)} here and gets ${octal(to)} in the archive`);
  }
  const more = packed.changedModes.length - TOLD;
  if (more > 0) output.note(`and ${more} more, which --json lists`);
  output.result(
    {
      path: target,
      artifact,
      kind: packed.kind,
      sha256: packed.sha256,
      size_bytes: packed.sizeBytes,
      unpacked_size_bytes: packed.unpackedSizeBytes,
      changed_modes: packed.changedModes.map(({ path, from, to }) => ({ path, from: octal(from), to: octal(to) })),
    },
    `${target}  ${formatBytes(packed.sizeBytes)}  sha256 ${packed.sha256}\n`,
  );
}

/** Of modes that are changed. */
const TOLD = 3;

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');
