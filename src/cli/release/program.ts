import { rootCommand, runCommand } from '../command.ts';
import { addCompletion } from '../completion-verb.ts';
import { schemaOf } from '../verb.ts';
import { addBundle } from './bundle.ts';
import { addKeygen, addTrust } from './keys.ts';
import { addManifest } from './manifest.ts';
import { addPack } from './pack.ts';
import { addPromote } from './promote.ts';
import { addPublish } from './publish.ts';
import { addRefresh } from './refresh.ts';
import { addSign } from './sign.ts';
import type { ReleaseTools } from './tools.ts';
import { addVerify } from './verify.ts';
import { addWithdraw } from './withdraw.ts';

const DESCRIPTION = 'Makes keys, packs, signs, verifies, publishes and bundles releases.';
const WORKFLOW = `
A release, step by step:
  qx-release keygen --key-id dev-1 --kind development --keyring keyring.json
  qx-release pack dist/host/bin/qx-node --out build
  qx-release manifest --version 1.2.0 --channel dev --component qx-node=build/qx-node.tar.zst --out build/manifest.json
  qx-release sign build/manifest.json --key dev-1.private.json
  qx-release verify build/manifest.signed.json --keyring keyring.json --artifacts
  QX_TOKEN=... qx-release publish build --keyring keyring.json
  QX_TOKEN=... qx-release withdraw 1.2.0 --channel dev      (when it was a mistake)

Exit codes: 0 done, 1 other, 2 usage, 5 refused by policy, 7 verification failed, 8 no space, 9 server unreachable.`;

const VERBS = [
  addKeygen,
  addTrust,
  addPack,
  addManifest,
  addSign,
  addVerify,
  addRefresh,
  addPromote,
  addPublish,
  addWithdraw,
  addBundle,
  addCompletion,
] as const;

export async function runRelease(args: readonly string[], tools: ReleaseTools): Promise<number> {
  const outcome = { exitCode: 0 };
  const finish = (exitCode: number) => void Object.assign(outcome, { exitCode });
  const commands = rootCommand('qx-release', DESCRIPTION).addHelpText('after', WORKFLOW);
  commands.configureOutput({
    writeOut: (text) => tools.stdout.write(text),
    writeErr: (text) => tools.stderr.write(text),
  });
  for (const add of VERBS) add(commands, { name: 'qx-release', tools, finish });
  for (const command of commands.commands) {
    const schema = schemaOf('qx-release', command.name());
    command.option('--json', `print one JSON document (schema ${schema}); progress as JSON lines on stderr`);
  }
  const exitCode = await runCommand(commands, args);
  return exitCode === 0 ? outcome.exitCode : exitCode;
}
