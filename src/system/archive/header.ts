import { Header, type HeaderData, Pax } from 'tar';
import { BLOCK_BYTES } from './tar-reader.ts';

export interface Member {
  readonly path: string;
  readonly kind: 'file' | 'directory';
  readonly sizeBytes: number;
  readonly mode: number;
}

/** One block, or three where name or size do not fit into it. Neither who packs nor when shows in it. */
export function headerOf({ path, kind, sizeBytes, mode }: Member): Buffer {
  const fields: HeaderData = {
    path: kind === 'directory' ? `${path}/` : path,
    type: kind === 'directory' ? 'Directory' : 'File',
    mode,
    size: sizeBytes,
    uid: 0,
    gid: 0,
    mtime: new Date(0),
  };
  const block = Buffer.alloc(BLOCK_BYTES);
  const doesNotFit = new Header(fields).encode(block);
  if (!doesNotFit) return block;
  return Buffer.concat([new Pax({ path: fields.path ?? path, size: sizeBytes, mode: 0o644 }).encode(), block]);
}
