import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { exampleFiles } from './generate/examples.ts';
import { openApiFiles } from './generate/openapi.ts';
import { withGeneratedParts } from './generate/readme.ts';
import { schemaFiles } from './generate/schemas.ts';

// npm runs this in the folder of package.json.
const readme = ['README.md', withGeneratedParts(await readFile('README.md', 'utf8'))] as const;
for (const [path, text] of [...schemaFiles(), ...exampleFiles(), ...(await openApiFiles()), readme]) {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  process.stdout.write(`${path}\n`);
}
