import { QxError } from '../../src/errors.ts';

/** What a function refused with: the code of a `QxError`, the name of any other error, null when it went through. */
export async function refusal(run: () => unknown): Promise<string | null> {
  try {
    await run();
    return null;
  } catch (error) {
    return error instanceof QxError ? error.code : (error as Error).name;
  }
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

type Document = { [field: string]: unknown };

/** A JSON document's bytes after somebody changed its fields. */
export function edited(bytes: Uint8Array, edit: (document: Document) => void): Uint8Array {
  const document = JSON.parse(textOf(bytes)) as Document;
  edit(document);
  return bytesOf(JSON.stringify(document));
}
