import type { Dispatcher } from 'undici';

/** What is kept of a response: bounded, and fit for a Postgres text column whatever the receiver sent. */
export interface CapturedResponse {
  readonly statusCode: number;
  /** The few headers worth showing, lower case, each cut at 256 characters. */
  readonly responseHeaders: Readonly<Record<string, string>>;
  /** At most 4 KiB in UTF-8; bytes that are not UTF-8, and NUL, become U+FFFD. Never decompressed. */
  readonly responseBody: string;
  /** True if the body went on after what is kept. */
  readonly isTruncated: boolean;
}

/** What is kept of the head of a response. */
export function captureHeaders(headers: Dispatcher.ResponseData['headers']): Readonly<Record<string, string>> {
  const kept = KEPT_HEADERS.flatMap((name) => {
    const value = headers[name];
    const text = Array.isArray(value) ? value.join(', ') : value;
    return text === undefined ? [] : [[name, text.slice(0, MAX_HEADER_LENGTH)] as const];
  });
  return Object.fromEntries(kept);
}

/**
 * Reads a body to its end or to 4 KiB, whichever comes first; the rest is never read, which ends the connection.
 *
 * @param keep receives what is there after each chunk, so that a body cut short by a fault is kept too
 * @throws whatever ends the stream early: a reset, the deadline's abort
 */
export async function readBody(
  body: Dispatcher.ResponseData['body'],
  keep: (kept: Pick<CapturedResponse, 'responseBody' | 'isTruncated'>) => void,
): Promise<void> {
  const chunks: Uint8Array[] = [];
  let byteCount = 0;
  // Leaving the loop destroys the stream, and undici the socket under it.
  for await (const chunk of body) {
    // The stream is never given an encoding, so its chunks are buffers.
    const bytes = chunk as Uint8Array;
    chunks.push(bytes.subarray(0, MAX_BODY_BYTES - byteCount));
    byteCount += bytes.byteLength;
    const isTruncated = byteCount > MAX_BODY_BYTES;
    keep({ responseBody: toStorableText(Buffer.concat(chunks)), isTruncated });
    if (isTruncated) return;
  }
}

function toStorableText(bytes: Uint8Array): string {
  // stream: true leaves out a character that the cut has split.
  const text = new TextDecoder().decode(bytes, { stream: true }).replaceAll('\0', '\ufffd');
  // Each byte that is no UTF-8 has become three.
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(MAX_BODY_BYTES));
  return text.slice(0, read);
}

const MAX_BODY_BYTES = 4_096;
const MAX_HEADER_LENGTH = 256;
const KEPT_HEADERS = ['content-type', 'content-length', 'date', 'location', 'retry-after', 'server', 'x-request-id'];
