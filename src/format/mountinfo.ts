/** One line of /proc/self/mountinfo (proc(5)), as far as it takes to find what a path lies on. */
export interface Mount {
  readonly point: string;
  /** `major:minor`; a file system of several devices, or of none, has one of its own that begins with 0. */
  readonly number: string;
  readonly type: string;
  readonly source: string;
}

/** Where a path lies; null where nothing is known of mounts, as in a folder. */
export function mountOf(mountinfo: string, path: string): Mount | null {
  const mounts = mountinfo.split('\n').flatMap(readMount);
  const above = mounts.filter(({ point }) => point === '/' || path === point || path.startsWith(`${point}/`));
  // Of two at the same place the later one covers the other.
  return above.reduceRight<Mount | null>(
    (best, next) => (best === null || next.point.length > best.point.length ? next : best),
    null,
  );
}

function readMount(line: string): readonly Mount[] {
  const [fields = '', rest = ''] = line.split(' - ', 2);
  const [, , number = '', , point = ''] = fields.split(' ');
  const [type = '', source = ''] = rest.split(' ');
  return point === '' ? [] : [{ point: unescaped(point), number, type, source: unescaped(source) }];
}

/** Space, tab, newline and backslash are written in octal. */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
