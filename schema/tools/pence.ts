/**
 * Exact money of one currency, pounds: prices are read into whole pence and sums are made of those.
 */

/** Pence of a price that is more than 0 and has at most 2 digits behind the point, noughts aside; undefined for any other text. */
export function readPrice(text: string): bigint | undefined {
  const [, whole, fraction = ''] = /^(\d{1,9})(?:\.(\d{1,2})0*)?$/.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const pence = BigInt(whole + fraction.padEnd(2, '0'));
  return pence > 0n ? pence : undefined;
}

/** Pence of an amount as the server writes it: `"93029.47"`; undefined for any other text. */
export function readAmount(text: string): bigint | undefined {
  const [, whole, fraction] = /^(\d+)\.(\d\d)$/.exec(text) ?? [];
  return whole === undefined || fraction === undefined ? undefined : BigInt(whole + fraction);
}

/** As the server takes it: 5 pence are `"0.05"`. */
export function writeAmount(pence: bigint): string {
  const digits = String(pence).padStart(3, '0');
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
