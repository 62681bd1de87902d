/** esbuild replaces this by package.json's version; run from source it stays unset. */
declare const QX_VERSION: string | undefined;

export const programVersion = (): string => (typeof QX_VERSION === 'string' ? QX_VERSION : '0.0.0-source');
