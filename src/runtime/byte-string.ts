/**
 * A text's UTF-8 as a *byte string*: one character, U+0000 to U+00FF, for each byte, so that its length is its size. Byte
 * strings are joined as strings are and written with the encoding `latin1`: one text for a thousand sockets is encoded
 * once. A lone surrogate becomes U+FFFD, as wherever UTF-8 is written.
 */
export function toByteString(text: string): string {
  return Buffer.byteLength(text) === text.length ? text : Buffer.from(text).toString('latin1');
}
