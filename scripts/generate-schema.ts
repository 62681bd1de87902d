import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { exampleFiles } from './generate/examples.ts';
import { schemaFiles } from './generate/schemas.ts';

// npm runs this in the folder of package.json.
for (const [path, text] of [...schemaFiles(), ...exampleFiles()]) {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  process.stdout.write(`${path}\n`);
}
