import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { install } from '../../src/agent/install.ts';
import { rollback } from '../../src/agent/rollback.ts';
import { agentBench } from '../support/agent-bench.ts';
import { installedBytes } from '../support/agent-machine.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('backups', () => {
  const bench = agentBench();

  test.each([
    ['backup_dir', ['backup_dir: /data/old'], 'data/old'],
    ['storage_location', ['storage_location: volume', 'volume_path: /data/volume'], 'data/volume/backup'],
  ])('%s moves them, but not those of the agent, which node-run looks for', async (_key, settings, folder) => {
    const components = { 'qx-console': '2.0.0', 'qx-node': '2.0.0' };
    const host = await bench.host([await bench.release('2.0.0', { components })], { settings });
    const at = (path: string) => join(host.root, path);
    await install(host, {}, {});
    expect(await readdir(at(folder))).toEqual(['qx-console']);
    expect(await readdir(at('data/updates/backup'))).toEqual(['qx-node']);
    const [backup = ''] = await readdir(at('data/updates/backup/qx-node'));
    expect(await readFile(at(`data/updates/backup/qx-node/${backup}/qx-node`), 'utf8')).toBe('qx-node 1.0.0');
    expect(await rollback(host, 'it is worse')).toMatchObject({ kind: 'rolled_back' });
    expect(await installedBytes(host.root)).toMatchObject({ 'qx-console': '1.0.0', 'qx-node': '1.0.0' });
  });
});
