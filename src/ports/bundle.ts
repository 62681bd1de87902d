/** Releases that are carried to a host: in one file, or in a folder. */

export interface BundleEntry {
  readonly name: string;
  readonly sizeBytes: number;
}

/** A release that was carried here: an envelope and artifacts, open. Neither names nor bytes are to be trusted. */
export interface OpenBundle {
  /** A folder may hold files of other purposes too; a file that was made for this may not. */
  readonly kind: 'file' | 'folder';
  /** Names are plain and each is there once; the envelope comes first. */
  readonly entries: readonly BundleEntry[];
  /** An entry's bytes from `start` to its end, as they are when they are read. @throws SIZE_MISMATCH when they are fewer */
  read(name: string, start: number): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

export interface Bundles {
  /**
   * Opens a bundle, or a folder with the same files. The path is of this machine, wherever the host's own files lie, and may
   * be a symlink: whoever names it chose it. What is put under that name later is not looked at. @throws BUNDLE_INVALID |
   * NOT_FOUND
   */
  open(path: string): Promise<OpenBundle>;
}

export interface BundleMember extends BundleEntry {
  /** Of a file: what it must hash to while it is copied. */
  readonly sha256?: string;
  readonly content: Uint8Array | { readonly path: string };
}

export interface WrittenBundle {
  readonly sha256: string;
  readonly sizeBytes: number;
  /** False when the same bundle was there already. */
  readonly isNew: boolean;
}

export interface BundleWriter {
  /**
   * Puts the members into one file, in this order; the same members make the same bytes. Whatever else lies under the name
   * stays as it is. @throws REFUSED_OVERWRITE | HASH_MISMATCH | SIZE_MISMATCH
   */
  write(
    target: string,
    members: readonly BundleMember[],
    onBytes: (doneBytes: number, totalBytes: number) => void,
  ): Promise<WrittenBundle>;
}
