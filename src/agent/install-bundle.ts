import { type InstallRequest, type Refusal, refusal } from '../core/plan.ts';
import { BUNDLE_URL, offlineHttp, offlineSource } from '../delivery/offline.ts';
import { asQxError, ERRORS } from '../errors.ts';
import type { OpenBundle } from '../ports/bundle.ts';
import type { Http } from '../ports.ts';
import { noted } from './check.ts';
import type { Host, Watch } from './host.ts';
import { type InstallResult, install } from './install.ts';

/** The newest of a bundle is all there is in it: no version is asked for by name, so every rule of an update counts. */
export type BundleRequest = Omit<InstallRequest, 'version'>;

/**
 * Installs the release of an offline bundle: the same journey, with the bundle in the place of the update server. Neither the
 * server nor its mirrors are asked.
 * @throws QxError NOT_FOUND, or as `install` does
 */
export async function installBundle(
  host: Host,
  path: string,
  request: BundleRequest,
  watch: Watch,
): Promise<InstallResult> {
  const opened = await noted(host, () => openBundle(host, path));
  if (opened.kind === 'refusal') return opened;
  const { bundle, http } = opened;
  try {
    return await install(offline(host, http), request, watch);
  } finally {
    await bundle.close();
  }
}

type Opened = { readonly kind: 'open'; readonly bundle: OpenBundle; readonly http: Http };

/** A bundle that does not hold together is refused as a release is that is not trusted. */
async function openBundle({ config, keyring, bundles }: Host, path: string): Promise<Opened | Refusal> {
  let bundle: OpenBundle | null = null;
  try {
    bundle = await bundles.open(path);
    return { kind: 'open', bundle, http: await offlineHttp(bundle, offlineSource(config), keyring) };
  } catch (error) {
    await bundle?.close();
    const { code, message, next } = asQxError(error);
    if (ERRORS[code].exit !== 'verification') throw error;
    return refusal(code, message, next);
  }
}

/** The settings as they are now, for the whole journey. */
const offline = (host: Host, http: Http): Host => ({
  ...host,
  http,
  config: { ...host.config, serverUrl: BUNDLE_URL, mirrors: [] },
});
