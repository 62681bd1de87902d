import { Envelope } from '../../src/format/envelope.ts';
import { Keyring } from '../../src/format/keyring.ts';
import { Manifest } from '../../src/format/manifest.ts';

const SCHEMAS = {
  manifest: {
    title: 'Quantix release manifest',
    description:
      'What a release consists of and for whom it is. Fields that are not described here are kept and ignored, unless `critical` names them. A reader also refuses dates that are none, names that occur twice, and update_type full without full_image.',
    schema: Manifest,
  },
  envelope: {
    title: 'Quantix signed manifest',
    description:
      'A manifest and its signatures. Signed are the RFC 8785 bytes of `manifest`; nothing outside of it decides anything.',
    // The envelope's own reader looks at the manifest only once its signatures hold; whoever has the schema alone looks at once.
    schema: { ...Envelope, properties: { ...Envelope.properties, manifest: { $ref: 'manifest.schema.json' } } },
  },
  keyring: {
    title: 'Quantix keyring',
    description: 'The public keys that a host, a server or a release tool trusts, and for what.',
    schema: Keyring,
  },
} as const;

const pretty = (document: object): string => `${JSON.stringify(document, null, 2)}\n`;

/** Path from the top of the repository -> text, of every schema that we publish. */
export const schemaFiles = (): Map<string, string> =>
  new Map(
    Object.entries(SCHEMAS).map(([name, { title, description, schema }]) => [
      `schema/${name}.schema.json`,
      pretty({
        $schema: 'https://json-schema.org/draft/2020-12/schema',
        $id: `${name}.schema.json`,
        title,
        description,
        ...schema,
      }),
    ]),
  );
