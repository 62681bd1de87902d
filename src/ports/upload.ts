export interface UploadPart {
  readonly name: string;
  readonly fileName: string;
  readonly sizeBytes: number;
  /** Bytes at hand, or what is read while it is sent, from its start at each attempt. */
  readonly content: Uint8Array | { readonly path: string } | { readonly read: () => AsyncIterable<Uint8Array> };
}

export interface UploadLimits {
  readonly maxResponseBytes: number;
  readonly connectTimeoutMs: number;
  /** No byte taken and no answer for this long: the upload is given up. */
  readonly stallTimeoutMs: number;
}

export interface Upload {
  /**
   * Sends a form (multipart/form-data) of known length with constant memory; never follows a redirect. An answer that comes
   * before everything was sent, such as a refusal, ends the sending. @throws SERVER_UNREACHABLE | SIZE_MISMATCH
   */
  post(
    url: string,
    request: {
      headers: Readonly<Record<string, string>>;
      parts: readonly UploadPart[];
      limits: UploadLimits;
      onSent?: (sentBytes: number, totalBytes: number) => void;
      signal?: AbortSignal;
    },
  ): Promise<{ readonly status: number; readonly body: Uint8Array }>;
}
