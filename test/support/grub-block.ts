/** Blocks as GRUB stores them, written here a second time so that tests of the shell do not lean on our own encoder. */
export interface BlockValues {
  readonly order: string;
  readonly a_ok: string;
  readonly b_ok: string;
  readonly a_tries: string;
  readonly b_tries: string;
  readonly trial: string;
  readonly failed: string;
}

export const goodA: BlockValues = {
  order: 'A B',
  a_ok: '1',
  b_ok: '0',
  a_tries: '0',
  b_tries: '0',
  trial: '',
  failed: '',
};
export const trialB: BlockValues = { ...goodA, order: 'B A', b_tries: '2', trial: 'trial0001' };

export function block(values: BlockValues, seal?: string): string {
  const names = ['order', 'a_ok', 'b_ok', 'a_tries', 'b_tries', 'trial', 'failed'] as const;
  const lines = names.map((name) => `quantix_${name}=${values[name]}`);
  lines.push(`quantix_seal=${seal ?? names.map((name) => values[name]).join('|')}`);
  return `# GRUB Environment Block\n${lines.join('\n')}\n`.padEnd(4096, '#');
}
