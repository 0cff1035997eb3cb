import { type AddressRange, contains, parseAddress } from './addresses.ts';

/**
 * The IPv6 prefixes behind which this network's translator hides IPv4, read from the AAAA answers for `ipv4only.arpa`.
 * An operator's own prefix looks like any global address, but reaches 10.0.0.0/8 and the metadata services all the same.
 *
 * @returns the prefix of each answer that embeds 192.0.0.170 or 192.0.0.171, and the /96 of any other answer.
 * @see RFC 7050 section 3 and RFC 6052 section 2.2
 */
export function nat64Prefixes(answers: readonly string[]): readonly AddressRange[] {
  return answers
    .map(parseAddress)
    .filter((bytes) => bytes !== undefined)
    .map((bytes) => ({ bytes, bits: EMBEDDINGS.find(({ at }) => isWellKnownIpv4(bytes, at))?.bits ?? 96 }));
}

/** Whether the address lies behind one of the prefixes. */
export function isTranslated(ip: string, prefixes: readonly AddressRange[]): boolean {
  const bytes = parseAddress(ip);
  return bytes !== undefined && prefixes.some((prefix) => contains(prefix, bytes));
}

function isWellKnownIpv4(bytes: readonly number[], at: readonly number[]): boolean {
  const [a, b, c, d] = at.map((index) => bytes[index]);
  return a === 192 && b === 0 && c === 0 && (d === 170 || d === 171);
}

/** Where the four bytes of IPv4 lie, by prefix length; byte 8 is always skipped (RFC 6052 section 2.2). */
const EMBEDDINGS: readonly { readonly bits: number; readonly at: readonly number[] }[] = [
  { bits: 96, at: [12, 13, 14, 15] },
  { bits: 64, at: [9, 10, 11, 12] },
  { bits: 56, at: [7, 9, 10, 11] },
  { bits: 48, at: [6, 7, 9, 10] },
  { bits: 40, at: [5, 6, 7, 9] },
  { bits: 32, at: [4, 5, 6, 7] },
];
