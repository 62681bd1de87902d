/** What was printed for a terminal, without its control sequences. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal control sequences are what is removed
export const plain = (text: string): string => text.replace(/\u001b(\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9])|\r/g, '');
