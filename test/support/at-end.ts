import { onTestFinished } from 'vitest';

/** Where a part of a test leaves what has to be undone; the last one in is the first one out. */
export type AtEnd = (undo: () => unknown) => void;

export const atTestEnd: AtEnd = (undo) => onTestFinished(async () => void (await undo()));
