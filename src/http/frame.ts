/** FIN and the opcode of text. */
const WHOLE_TEXT = 0x81;
const LENGTH_IN_2_BYTES = 126;
const LENGTH_IN_8_BYTES = 127;

/**
 * The header of an unmasked, unfragmented text frame, as a byte string: what a server sends where no extension was
 * negotiated.
 *
 * Frames by hand, because they are the same for a thousand sockets but for some twenty bytes, and because those of one turn
 * go out in one write. µs of the sender's CPU for each frame of 270 bytes, 1,000 sockets, one event at a time:
 * `ws.send(prefix + body)` 21.4, this 11.3, a bare `ws.send` of one buffer 9.7 to 11.5 (2 cores, 2026-11-22).
 * @param length of the payload, in bytes; below 2^32
 * @see RFC 6455, section 5.2
 */
export function textFrameHeader(length: number): string {
  if (length < LENGTH_IN_2_BYTES) return String.fromCharCode(WHOLE_TEXT, length);
  if (length < 0x10000) return String.fromCharCode(WHOLE_TEXT, LENGTH_IN_2_BYTES, length >> 8, length & 0xff);
  const low = [24, 16, 8, 0].map((shift) => (length >>> shift) & 0xff);
  return String.fromCharCode(WHOLE_TEXT, LENGTH_IN_8_BYTES, 0, 0, 0, 0, ...low);
}
