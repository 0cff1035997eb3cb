import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { StartupError } from '../errors.ts';

/** A range of addresses: the first `bits` bits of `bytes` (4 of IPv4, 16 of IPv6) are given, the rest is free. */
export interface AddressRange {
  readonly bytes: readonly number[];
  readonly bits: number;
}

/** Which peers a callback may reach. Every answer is about a literal address; text that is none is never permitted. */
export interface AddressPolicy {
  /** True inside the operator's `WEBHOOK_ALLOW_CIDRS`: plain http, any port and names that are not public are fine there. */
  isAllowed(ip: string): boolean;
  /** True for an allowed address and for every global one. */
  permits(ip: string): boolean;
  /** False when nothing is allowed beyond the public Internet. */
  readonly allowsAny: boolean;
}

/**
 * Makes the policy of one installation.
 *
 * @throws {StartupError} naming the first entry of `allowCidrs` that is neither `address/bits` nor an address.
 */
export function createAddressPolicy(options: { readonly allowCidrs: readonly string[] }): AddressPolicy {
  const allowed = options.allowCidrs.map(parseAllowedRange);
  const isAllowed = (ip: string) => {
    const bytes = parseAddress(ip);
    return bytes !== undefined && allowed.some((range) => contains(range, bytes));
  };
  return { isAllowed, permits: (ip) => isAllowed(ip) || isGlobal(ip), allowsAny: allowed.length > 0 };
}

/**
 * Whether a literal address is one of the public Internet's unicast addresses.
 *
 * IPv4 is judged by a deny list, IPv6 by an allow list: only 2000::/3 is assigned, so mapped, compatible, translated,
 * local, multicast and not yet assigned addresses fall out without being named.
 *
 * @returns false also for text that is no address, and for an address with a zone id.
 */
export function isGlobal(ip: string): boolean {
  const bytes = parseAddress(ip);
  if (bytes === undefined) return false;
  if (bytes.length === 4) return !DENIED_IPV4.some((range) => contains(range, bytes));
  return contains(GLOBAL_UNICAST, bytes) && !DENIED_IPV6.some((range) => contains(range, bytes)) && !isIsatap(bytes);
}

/** Reads `10.0.0.0/8`, `fd00::/8`, or one address as a range of itself; undefined if the text is none of these. */
export function parseCidr(text: string): AddressRange | undefined {
  const [address = '', bits, ...more] = text.split('/');
  const bytes = parseAddress(address);
  if (bytes === undefined || more.length > 0) return undefined;
  if (bits === undefined) return { bytes, bits: bytes.length * 8 };
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > bytes.length * 8) return undefined;
  return { bytes, bits: Number(bits) };
}

/** The 4 or 16 bytes of a literal address in its canonical spelling; undefined for anything else, zone ids included. */
export function parseAddress(ip: string): readonly number[] | undefined {
  // isIP first: ipaddr.js also reads octal, hexadecimal and shortened IPv4, which no resolver or socket reports.
  return isIP(ip) === 0 || ip.includes('%') ? undefined : ipaddr.parse(ip).toByteArray();
}

/** Whether the address lies in the range; never across families. */
export function contains(range: AddressRange, bytes: readonly number[]): boolean {
  return (
    range.bytes.length === bytes.length &&
    range.bytes.every((byte, index) => ((byte ^ (bytes[index] ?? 0)) & prefixMask(range.bits - index * 8)) === 0)
  );
}

/** The mask of one byte of which the first `bits` bits belong to the prefix. */
function prefixMask(bits: number): number {
  return bits >= 8 ? 0xff : bits <= 0 ? 0 : (0xff << (8 - bits)) & 0xff;
}

/** An ISATAP interface id carries an IPv4 address behind any prefix (RFC 5214 section 6.1), private ones included. */
function isIsatap(bytes: readonly number[]): boolean {
  return (bytes[8] === 0 || bytes[8] === 2) && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;
}

function parseAllowedRange(text: string): AddressRange {
  const range = parseCidr(text);
  if (range === undefined) {
    throw new StartupError(`WEBHOOK_ALLOW_CIDRS: expected addresses such as 10.0.0.0/8 or ::1/128, found "${text}"`);
  }
  return range;
}

function ranges(...cidrs: readonly string[]): readonly AddressRange[] {
  return cidrs.map(parseCidr).filter((range) => range !== undefined);
}

/**
 * The IANA IPv4 Special-Purpose Address Registry and multicast, wider than its "globally reachable" column: the anycast
 * services in it (AS112, AMT, PCP, TURN) are no place for a callback.
 *
 * @see https://www.iana.org/assignments/iana-ipv4-special-registry
 */
const DENIED_IPV4 = ranges(
  '0.0.0.0/8', // "this network", RFC 791; Linux connects 0.0.0.0 to itself
  '10.0.0.0/8', // private use, RFC 1918
  '100.64.0.0/10', // shared address space of carriers, RFC 6598; Alibaba's metadata service too
  '127.0.0.0/8', // loopback, RFC 1122
  '169.254.0.0/16', // link local, RFC 3927; most clouds' metadata services
  '172.16.0.0/12', // private use, RFC 1918
  '192.0.0.0/24', // IETF protocol assignments, RFC 6890; Oracle's metadata service
  '192.0.2.0/24', // TEST-NET-1, RFC 5737
  '192.31.196.0/24', // AS112-v4, RFC 7535
  '192.52.193.0/24', // AMT, RFC 7450
  '192.88.99.0/24', // 6to4 relay anycast, RFC 7526
  '192.168.0.0/16', // private use, RFC 1918
  '192.175.48.0/24', // direct delegation AS112, RFC 7534
  '198.18.0.0/15', // benchmarking, RFC 2544
  '198.51.100.0/24', // TEST-NET-2, RFC 5737
  '203.0.113.0/24', // TEST-NET-3, RFC 5737
  '224.0.0.0/4', // multicast, RFC 5771
  '240.0.0.0/4', // reserved, RFC 1112, and limited broadcast, RFC 8190
  '168.63.129.16/32', // a public address, but inside Azure it is the host's own agent
);

/** All that IANA has opened for global unicast, RFC 4291 section 2.4. */
const GLOBAL_UNICAST: AddressRange = { bytes: [0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], bits: 3 };

/**
 * What the IANA IPv6 Special-Purpose Address Registry takes out of 2000::/3.
 *
 * @see https://www.iana.org/assignments/iana-ipv6-special-registry
 */
const DENIED_IPV6 = ranges(
  '2001::/23', // IETF protocol assignments, RFC 2928: Teredo, benchmarking, AMT, AS112, ORCHID, drones
  '2001:db8::/32', // documentation, RFC 3849
  '2002::/16', // 6to4, RFC 3056: carries any IPv4 address
  '2620:4f:8000::/48', // direct delegation AS112, RFC 7534
  '3fff::/20', // documentation, RFC 9637
);
