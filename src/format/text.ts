/** Text of somebody else's making (a server, a program, a header), in a form that our strict JSON reader takes again. */
export const readableText = (text: string): string =>
  text
    .toWellFormed()
    .replaceAll(/(\p{M}{8})\p{M}+/gu, '$1')
    .normalize('NFC');
