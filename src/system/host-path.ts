import { posix } from 'node:path';

/**
 * A host path below `root` ('' or '/' is the real host). `..` is resolved first, as if `root` were the top of the world, so
 * that no path of a document or a configuration climbs out of the folder.
 */
export function hostPath(root: string, path: string): string {
  if (!path.startsWith('/') || path.includes('\0'))
    throw new TypeError(`not an absolute path: ${JSON.stringify(path)}`);
  // A trailing slash would make the kernel follow a symlink that the caller wants to see, replace or remove.
  const inside = posix.normalize(path).replace(/\/+$/, '');
  return `${root.replace(/\/+$/, '')}${inside}` || '/';
}
