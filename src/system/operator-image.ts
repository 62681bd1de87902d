import { unsquash } from './disk/unsquash.ts';
import { versionInSquashfs } from './disk/version.ts';
import { hostProcess } from './process.ts';

const VERSION_TIMEOUT_MS = 10_000;

/**
 * Files of an image, each at its own path below `toDirectory`; false, and nothing done, where there is no unsquashfs: a
 * release is made on many kinds of machines. @throws QxError IMAGE_UNBOOTABLE when one of them is not in the image
 */
export async function unsquashForOperator(
  image: string,
  paths: readonly string[],
  toDirectory: string,
): Promise<boolean> {
  const runner = hostProcess();
  const isInstalled = await runner.run(['unsquashfs', '-version'], { timeoutMs: VERSION_TIMEOUT_MS }).then(
    () => true,
    () => false,
  );
  if (isInstalled) await unsquash(runner, image, paths, toDirectory);
  return isInstalled;
}

/** Which version an image says that it is; null when it does not say, or nobody can look. */
export const imageVersion = (image: string): Promise<string | null> => versionInSquashfs(hostProcess(), image);
