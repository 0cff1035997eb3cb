import { isIP, isIPv6 } from 'node:net';
import type { AddressPolicy, AddressRange } from './addresses.ts';
import {
  CALLBACK_REFUSED_MESSAGE,
  type CallbackRefusalReason,
  type CallbackUrlAccepted,
  type CallbackUrlRefused,
  checkCallbackUrl,
} from './callback-url.ts';
import type { ConnectionTimings } from './connection-timings.ts';
import { isTranslated, nat64Prefixes } from './nat64.ts';
import { createOwnUrlCheck } from './own-url.ts';
import { type NameServer, resolveName } from './resolver.ts';

/** The URL may be called, now, at these addresses and no others. */
export interface CallbackPermitted {
  readonly ok: true;
  readonly url: URL;
  readonly host: string;
  /** At least one; IPv4 before IPv6. */
  readonly addresses: readonly string[];
}

export interface CallbackForbidden {
  readonly ok: false;
  readonly reason: CallbackRefusalReason;
  /** True if only the name servers' silence stands behind it: ask again later. */
  readonly transient: boolean;
}

/** Decides which URLs may be called. */
export interface CallbackGuard {
  /**
   * The one check of all call sites: when a webhook is created or changed, and, on the URL's origin, at each new connection
   * of a ping or a delivery. Asks the name servers once; never rejects.
   *
   * An answer holds for the addresses it lists, not for the name: connect to these, or check again.
   */
  check(url: string): Promise<CallbackPermitted | CallbackForbidden>;
  /** {@link check} of what a webhook is to be given: this installation's own address is refused, too. Never rejects. */
  checkNew(url: string): Promise<CallbackPermitted | CallbackForbidden>;
  /** The part of {@link check} that asks no name server. */
  checkText(url: string): CallbackUrlAccepted | CallbackUrlRefused;
  /** The address check alone, for the peer of a socket that is open. */
  permits(ip: string): boolean;
}

/** Thrown at connect for a callback that may not be called; its message is the same for every reason. */
export class CallbackForbiddenError extends Error {
  readonly reason: CallbackRefusalReason;
  readonly transient: boolean;
  /** Of the steps that were taken towards a connection. */
  readonly timings: ConnectionTimings;

  constructor(
    forbidden: { readonly reason: CallbackRefusalReason; readonly transient: boolean },
    timings: ConnectionTimings,
  ) {
    super(CALLBACK_REFUSED_MESSAGE);
    this.name = 'CallbackForbiddenError';
    this.reason = forbidden.reason;
    this.transient = forbidden.transient;
    this.timings = timings;
  }
}

/**
 * Makes the guard of one installation. Does no I/O until the first check.
 *
 * @param deps.publicUrl the address by which clients know this installation; without it none is known as its own
 * @param deps.now Unix milliseconds; ages the knowledge of this network's NAT64 prefix, which is asked for again after 10 minutes
 */
export function createCallbackGuard(deps: {
  readonly policy: AddressPolicy;
  readonly resolver: NameServer;
  readonly publicUrl?: string | undefined;
  readonly now: () => number;
}): CallbackGuard {
  const { policy, resolver } = deps;
  const isOwn = createOwnUrlCheck(deps.publicUrl);
  const readNat64Prefixes = rememberNat64Prefixes(resolver, deps.now);

  async function check(raw: string): Promise<CallbackPermitted | CallbackForbidden> {
    return checkHost(checkCallbackUrl(raw, policy));
  }

  async function checkNew(raw: string): Promise<CallbackPermitted | CallbackForbidden> {
    const accepted = checkCallbackUrl(raw, policy);
    if (accepted.ok && isOwn(accepted.url)) return { ok: false, reason: 'OWN_URL', transient: false };
    return checkHost(accepted);
  }

  async function checkHost(
    accepted: CallbackUrlAccepted | CallbackUrlRefused,
  ): Promise<CallbackPermitted | CallbackForbidden> {
    if (!accepted.ok) return { ...accepted, transient: false };
    return isIP(accepted.host) === 0 ? checkName(accepted) : checkLiteral(accepted);
  }

  async function checkLiteral({ url, host }: CallbackUrlAccepted): Promise<CallbackPermitted | CallbackForbidden> {
    const ok = await areReachable([host]);
    return ok ? { ok, url, host, addresses: [host] } : { ok, reason: 'IP_NOT_GLOBAL', transient: false };
  }

  async function checkName(accepted: CallbackUrlAccepted): Promise<CallbackPermitted | CallbackForbidden> {
    const { url, host, unlessAllowed } = accepted;
    if (isLocalhost(host)) return checkLocalhost(accepted);
    const resolution = await resolveName(resolver, host);
    if (resolution.status === 'unreachable')
      return { ok: false, reason: unlessAllowed ?? 'DNS_FAILED', transient: true };
    if (resolution.status === 'empty') return { ok: false, reason: unlessAllowed ?? 'DNS_EMPTY', transient: false };
    const { addresses } = resolution;
    if (unlessAllowed !== undefined && !addresses.every(policy.isAllowed)) {
      return { ok: false, reason: unlessAllowed, transient: false };
    }
    // One inward answer condemns the name: a client may pick any of them, and honest names have none.
    const ok = addresses.length <= MAX_ANSWERS && (await areReachable(addresses));
    return ok ? { ok, url, host, addresses } : { ok, reason: 'DNS_NOT_GLOBAL', transient: false };
  }

  /** RFC 6761 section 6.3: these names mean loopback and are not asked of any server. */
  function checkLocalhost({ url, host, unlessAllowed }: CallbackUrlAccepted): CallbackPermitted | CallbackForbidden {
    const addresses = ['127.0.0.1', '::1'].filter(policy.isAllowed);
    if (addresses.length === 0) return { ok: false, reason: unlessAllowed ?? 'HOST_NOT_PUBLIC_NAME', transient: false };
    return { ok: true, url, host, addresses };
  }

  async function areReachable(addresses: readonly string[]): Promise<boolean> {
    if (!addresses.every(policy.permits)) return false;
    const translatable = addresses.filter((address) => isIPv6(address) && !policy.isAllowed(address));
    if (translatable.length === 0) return true;
    const prefixes = await readNat64Prefixes();
    return !translatable.some((address) => isTranslated(address, prefixes));
  }

  return { check, checkNew, checkText: (raw) => checkCallbackUrl(raw, policy), permits: policy.permits };
}

/** Asks for the prefixes when first needed, once for all who wait; silence is taken as "none" and asked again next time. */
function rememberNat64Prefixes(resolver: NameServer, now: () => number): () => Promise<readonly AddressRange[]> {
  let known: { readonly prefixes: Promise<readonly AddressRange[]>; readonly staleAt: number } | undefined;
  return () => {
    if (known !== undefined && now() < known.staleAt) return known.prefixes;
    const prefixes = resolver.resolve6('ipv4only.arpa').then(nat64Prefixes, (error: unknown) => {
      const isDenied =
        error instanceof Error && 'code' in error && ['ENOTFOUND', 'ENODATA'].includes(String(error.code));
      if (!isDenied) known = undefined;
      return [];
    });
    known = { prefixes, staleAt: now() + NAT64_MEMORY_MS };
    return prefixes;
  };
}

function isLocalhost(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost');
}

/** More answers than any honest host has: a name server that wants the last one to slip through. */
const MAX_ANSWERS = 32;
const NAT64_MEMORY_MS = 600_000;
