import type { Closed } from '../agent/api/answers.ts';
import { tokenFault } from '../agent/token.ts';
import { asQxError, QxError } from '../errors.ts';
import type { CertificateState } from '../ports/serving.ts';
import type { Files, Log } from '../ports.ts';
import { keepRenewed } from './certificates.ts';
import type { ComposedHost } from './composed.ts';
import type { PatientListening } from './listen.ts';

/**
 * The ways to this host over the network. Each needs a file that somebody may spoil: the token, the certificate, the bundle of those
 * who vouch for clients. One that cannot be used closes its own way and nothing else, and is looked at again.
 */

export interface Certificate {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  readonly isFor: (name: string) => boolean;
}

export type HostTls = Certificate & { readonly clientCa?: Uint8Array };

/** Where the files are read; `cli/serve.ts` hands in the real one. */
export interface Certificates {
  givenCertificate(files: Files, paths: { cert: string; key: string }): Promise<Certificate>;
  authorities(files: Files, setting: 'client_ca' | 'server_ca', path: string): Promise<Uint8Array>;
  ownCertificate(machine: { files: Files; log: Log }, nowMs: number): Promise<Certificate>;
}

export interface Doors {
  /** What a listener begins with. @throws QxError CONFIG_INVALID while no certificate can be used */
  tls(): HostTls & { readonly asksClients: boolean };
  /** Whether the certificate in use is made out to this name. */
  isFor(name: string): boolean;
  /** This one takes renewed certificates from now on. */
  opened(listening: PatientListening): void;
  closed(): Promise<readonly Closed[]>;
  certificate(): CertificateState;
  /** Looks at the files now. */
  look(): Promise<void>;
  /** Looks at them every minute, until the signal. */
  run(signal: AbortSignal): Promise<void>;
}

const MEND = { next: 'mend the file that is named; it is looked at again every minute' };

export async function openDoors(host: ComposedHost, certificates: Certificates): Promise<Doors> {
  const { config, files, clock, log } = host;
  const now: { tls: HostTls | null; listening: PatientListening | null; clientFault: QxError | null } = {
    tls: null,
    listening: null,
    clientFault: null,
  };

  const clients = async (): Promise<Pick<HostTls, 'clientCa'>> => {
    if (config.clientCa === null) return {};
    try {
      return { clientCa: await certificates.authorities(files, 'client_ca', config.clientCa) };
    } catch (error) {
      // Whoever was let in by the bundle of before goes on to be; where there was none, nobody is.
      if (now.tls?.clientCa !== undefined) throw error;
      now.clientFault = asQxError(error);
      return {};
    }
  };

  const load = async (): Promise<HostTls> => ({
    // Its own is made again by the next start at the earliest: where it cannot be kept, each look would make another one.
    ...(config.tls
      ? await certificates.givenCertificate(files, config.tls)
      : (now.tls ?? (await certificates.ownCertificate(host, Math.max(clock.nowMs(), host.buildDateMs))))),
    ...(await clients()),
  });

  const take = (fresh: HostTls): void => {
    now.listening?.renew(fresh);
    if (fresh.clientCa !== undefined) now.clientFault = null;
    now.tls = fresh;
  };

  const renewal = keepRenewed<HostTls>(null, { load, take, clock, log });
  await renewal.look();
  return {
    tls: () => {
      if (now.tls === null)
        throw new QxError('CONFIG_INVALID', renewal.state().fault ?? 'there is no certificate', MEND);
      return { ...now.tls, asksClients: config.clientCa !== null };
    },
    isFor: (name) => now.tls?.isFor(name) ?? false,
    opened: (listening) => void Object.assign(now, { listening }),
    closed: async () => {
      const faults = [
        ['api_token', await tokenFault(files)],
        ['client_ca', now.clientFault],
        ['network', now.listening?.failure() ?? null],
      ] as const;
      return faults.flatMap(([door, why]) => (why === null ? [] : [[door, why] as const]));
    },
    certificate: renewal.state,
    look: renewal.look,
    run: renewal.run,
  };
}
