/** The position that a position cursor of a test stands behind: its bytes 9 to 16. Clients can't know them. */
export function positionOfCursor(cursor: unknown): number {
  return Number(Buffer.from(String(cursor), 'base64url').readBigUInt64BE(9));
}
