import type { Keyboard, Typist } from '../../scripts/support/keyboard.ts';

/** What comes in by the keyboard or the serial line while GRUB listens. */

export const ESCAPE = '\x1b';
const ENTER = '\r';
const DOWN = '\x1b[B';
const EVERY_BYTE = Uint8Array.from({ length: 256 }, (_, i) => i);

const HEARS = 'press Escape within';
const SPELL = 'type MENU';
const CHOOSE = 'a for slot A';

/** The keys wait in the line before GRUB looks for the first time. */
export const atOnce =
  (keys: string | Uint8Array): Typist =>
  async ({ type }) =>
    type(keys);

/** Without a pause, until GRUB has handed over. */
export const withoutEnd =
  (keys: string | (() => Uint8Array)): Typist =>
  async (keyboard) => {
    while (!keyboard.isOver) await keyboard.type(typeof keys === 'string' ? keys.repeat(512) : keys());
  };

/** Up to where a person would type the word. */
async function asked({ type, printed }: Keyboard): Promise<void> {
  await printed(HEARS);
  type(ESCAPE);
  await printed(SPELL);
}

export const afterAsking =
  (keys: string): Typist =>
  async (keyboard) => {
    await asked(keyboard);
    keyboard.type(keys);
  };

export const chosen =
  (key: string): Typist =>
  async (keyboard) => {
    await afterAsking('menu')(keyboard);
    await keyboard.printed(CHOOSE);
    keyboard.type(key);
  };

/** The other end of the line sends back what it gets. */
const echo: Typist = async (keyboard) => {
  await keyboard.printed(HEARS);
  keyboard.type(ESCAPE);
  while (!keyboard.isOver) keyboard.type(await keyboard.anything());
};

export const noise = (): Uint8Array => crypto.getRandomValues(new Uint8Array(4096));

export const ACCIDENTS: Readonly<Record<string, Typist>> = {
  'every byte once': atOnce(EVERY_BYTE),
  Escape: atOnce(ESCAPE),
  'Escape, again and again': atOnce(ESCAPE.repeat(12)),
  Enter: atOnce(ENTER.repeat(3)),
  'Down and Enter': atOnce(DOWN + DOWN + ENTER),
  'Escape, then Down and Enter': atOnce(ESCAPE + DOWN + ENTER),
  'c, for the command line of GRUB': atOnce('ccc'),
  'e, for its editor': atOnce('eee'),
  'the word without Escape': atOnce('menua'),
  'noise without end': withoutEnd(noise),
  'Escape held down': withoutEnd(ESCAPE),
  'Enter held down': withoutEnd(ENTER),
  'Escape, and then m held down': afterAsking('m'.repeat(4096)),
  'Escape, and then another word': afterAsking('mend'),
  'Escape, and then in capital letters': afterAsking('MENUA'),
  'the word, and then Escape': afterAsking(`menu${ESCAPE}`),
  'the word, and then another letter': afterAsking('menum'),
  'the word, and then nothing': afterAsking('menu'),
  'half of the word': afterAsking('me'),
  'an echo of all that GRUB says': echo,
};
