/** esbuild replaces these by package.json's version and the date of what was built; run from source they stay unset. */
declare const QX_VERSION: string | undefined;
declare const QX_BUILD_DATE_MS: number | undefined;

export const programVersion = (): string => (typeof QX_VERSION === 'string' ? QX_VERSION : '0.0.0-source');

/** Of the commit that this was built from, not of the build: the same source gives the same executable. 0: not known. */
export const buildDateMs = (): number => (typeof QX_BUILD_DATE_MS === 'number' ? QX_BUILD_DATE_MS : 0);
