import { readFile, writeFile } from 'node:fs/promises';
import { Script } from 'node:vm';
import { programsName } from './programs-apart.ts';

/** Compiles the programs' bundle as the executable will and keeps the result. A process of its own: see executable.ts. */
const [, , bundlePath = '', cachePath = ''] = process.argv;
const script = new Script(await readFile(bundlePath, 'utf8'), { filename: programsName });
await writeFile(cachePath, script.createCachedData());
