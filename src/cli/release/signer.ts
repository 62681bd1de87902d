import { QxError } from '../../errors.ts';
import type { Signer } from '../../format/envelope.ts';
import { KEY_ID_PATTERN } from '../../format/keyring.ts';
import type { ReleaseTools } from './tools.ts';

/** Long enough for a person who has to touch a token or type its PIN. */
const SIGNER_TIMEOUT_MS = 5 * 60_000;
const SIGNATURE = /^[A-Za-z0-9+/]{86}==$/;

/** Words of a command, with quotes around those that have spaces; nothing else is special, for no shell reads it. */
export function splitCommand(command: string): [string, ...string[]] {
  const words = [...command.matchAll(/"([^"]*)"|'([^']*)'|[^\s"']+/g)].map(
    ([all, double, single]) => double ?? single ?? all,
  );
  const [program, ...args] = words;
  if (program === undefined) throw new QxError('USAGE', '--signer names no command');
  return [program, ...args];
}

/** Signs with a vault or a token: the command reads the bytes to be signed and prints the signature in base64. */
export function commandSigner(tools: ReleaseTools, command: string, keyId: string): Signer {
  const argv = splitCommand(command);
  if (!new RegExp(KEY_ID_PATTERN).test(keyId)) throw new QxError('USAGE', `${JSON.stringify(keyId)} is no key id`);
  return {
    keyId,
    sign: async (message) => {
      const { exitCode, stdout, stderr } = await tools.runForOperator(argv, {
        timeoutMs: SIGNER_TIMEOUT_MS,
        input: message,
      });
      if (exitCode !== 0) {
        throw new QxError('SIGNATURE_INVALID', `${argv[0]} ended with ${exitCode}: ${stderr.trim().slice(0, 500)}`);
      }
      const text = stdout.trim();
      if (SIGNATURE.test(text)) return Uint8Array.fromBase64(text, { lastChunkHandling: 'strict' });
      throw new QxError('SIGNATURE_MALFORMED', `${argv[0]} printed no base64 of 64 bytes`);
    },
  };
}
