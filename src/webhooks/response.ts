import { isAscii } from 'node:buffer';
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
  const kept: Record<string, string> = {};
  for (const name of KEPT_HEADERS) {
    const value = headers[name];
    if (value === undefined) continue;
    kept[name] = (Array.isArray(value) ? value.join(', ') : value).slice(0, MAX_HEADER_LENGTH);
  }
  return kept;
}

/** Gathers a body up to 4 KiB. */
export interface BodyKeeper {
  /** Takes a piece. @returns whether that was more than is kept: nothing more is taken then */
  add(chunk: Uint8Array): boolean;
  /** What has come so far. */
  read(): Pick<CapturedResponse, 'responseBody' | 'isTruncated'>;
}

export function createBodyKeeper(): BodyKeeper {
  return new ChunkKeeper();
}

/** A class: one for each request, and closures would be made anew for each. */
class ChunkKeeper implements BodyKeeper {
  #chunks: Uint8Array[] | undefined;
  #byteCount = 0;

  add(chunk: Uint8Array): boolean {
    this.#chunks ??= [];
    this.#chunks.push(chunk.subarray(0, MAX_BODY_BYTES - this.#byteCount));
    this.#byteCount += chunk.byteLength;
    // pieces of one byte each cost a hundred times that
    if (this.#chunks.length > MAX_CHUNKS) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#byteCount > MAX_BODY_BYTES;
  }

  read(): Pick<CapturedResponse, 'responseBody' | 'isTruncated'> {
    const responseBody = this.#chunks === undefined ? '' : toStorableText(Buffer.concat(this.#chunks));
    return { responseBody, isTruncated: this.#byteCount > MAX_BODY_BYTES };
  }
}

function toStorableText(bytes: Buffer): string {
  if (isAscii(bytes)) return bytes.toString('latin1').replaceAll('\0', '\ufffd');
  // stream: true leaves out a character that the cut has split.
  const text = new TextDecoder().decode(bytes, { stream: true }).replaceAll('\0', '\ufffd');
  // Each byte that is no UTF-8 has become three.
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(MAX_BODY_BYTES));
  return text.slice(0, read);
}

const MAX_BODY_BYTES = 4_096;
const MAX_CHUNKS = 64;
const MAX_HEADER_LENGTH = 256;
const KEPT_HEADERS = ['content-type', 'content-length', 'date', 'location', 'retry-after', 'server', 'x-request-id'];
