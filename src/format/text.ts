/** Text of somebody else's making (a server, a program, a header), in a form that our strict JSON reader takes again. */
export const readableText = (text: string): string =>
  text
    .toWellFormed()
    .replaceAll(/(\p{M}{8})\p{M}+/gu, '$1')
    .normalize('NFC');

/** Nothing but what every log and terminal shows as it is; anything else is a question mark. */
export const asciiLine = (text: string, maxLength: number): string =>
  text.replace(/[^\x20-\x7e]/g, '?').slice(0, maxLength);

/**
 * As one line that may stand on a terminal and in a log: what could steer it, begin a line of its own or turn text around is
 * shown as U+FFFD.
 */
export const oneLine = (text: string): string =>
  text
    .toWellFormed()
    .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\u{200e}\u{200f}\u{202a}-\u{202e}\u{2066}-\u{2069}]/gu, '\u{fffd}');

/** As a name from outside is kept and compared: spelled in capitals or in another form of Unicode, it is the same one. */
export const foldCase = (name: string): string => name.normalize('NFKC').toLowerCase();
