/** Answers that no update server gives: a network that wants a log-in first, or a proxy, has answered in its place. */

export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

/** What it looks like, for a sentence that begins "was answered by"; null: it may be ours. */
export function foreignAnswer({ status, headers }: AnswerHead): string | null {
  if (status === 511) return 'a network that wants a log-in first';
  if (status === 407) return 'a proxy that wants a log-in';
  // Of a status that says that something is missing or broken, the page beside it says no more.
  const isPage = /^(?:text\/html|application\/xhtml\+xml)\b/i.test(headers['content-type'] ?? '');
  return isPage && status < 400 ? 'a web page, as the log-in page of a network is' : null;
}

export const LOG_IN =
  'see in a browser on that network whether it asks for a log-in, or ask whoever runs its proxy; what was downloaded is kept';
