import { Resolver } from 'node:dns/promises';
import { StartupError } from '../errors.ts';

/** The two questions the guard asks; a `Resolver` of `node:dns/promises` fits. Rejects with c-ares' codes. */
export interface NameServer {
  resolve4(name: string): Promise<string[]>;
  resolve6(name: string): Promise<string[]>;
}

/** What the name servers say of a host: its addresses, none, or no word within the time-out. */
export type Resolution =
  | { readonly status: 'answered'; readonly addresses: readonly string[] }
  | { readonly status: 'empty' }
  | { readonly status: 'unreachable' };

/**
 * Makes a resolver over c-ares: not `dns.lookup`, whose getaddrinfo shares four threads of the process, so that a few
 * silent name servers would stall every account. Neither the hosts file nor search domains are consulted.
 * A silent server is given up after 2 tries of 2 s each.
 *
 * @param options.servers `address` or `address:port` of each name server (`WEBHOOK_DNS_SERVERS`); empty for the machine's own
 * @throws {StartupError} when a server is not an IP address with an optional port.
 */
export function createResolver(options: { readonly servers: readonly string[] }): NameServer {
  // maxTimeout: c-ares doubles the time-out with each try, which made 7 s of 2 × 2 s (measured, Node 24.21).
  const resolver = new Resolver({ timeout: 2_000, tries: 2, maxTimeout: 2_000 });
  if (options.servers.length === 0) return resolver;
  try {
    resolver.setServers(options.servers);
  } catch (cause) {
    const found = options.servers.join(', ');
    throw new StartupError(
      `WEBHOOK_DNS_SERVERS: expected addresses such as 10.0.0.2 or [fd00::2]:53, found "${found}"`,
      {
        cause,
      },
    );
  }
  return resolver;
}

/**
 * Asks for every A and AAAA record of a name.
 *
 * A family that fails while the other answers is left out: nothing but the answers returned here is ever connected to.
 */
export async function resolveName(server: NameServer, name: string): Promise<Resolution> {
  const results = await Promise.allSettled([server.resolve4(name), server.resolve6(name)]);
  const addresses = results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
  if (addresses.length > 0) return { status: 'answered', addresses };
  const hasNoRecords = results.every((result) => result.status === 'fulfilled' || isDenial(result.reason));
  return { status: hasNoRecords ? 'empty' : 'unreachable' };
}

/** The name servers did answer: there is no such name, no such record, or the name can't exist. */
function isDenial(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ENOTFOUND' || code === 'ENODATA' || code === 'EBADNAME';
}
