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
 * Silence is given up after two questions, 4 s for one server, whatever other names were answered. No server that is down is
 * remembered: where it is the first of several, each name waits 2 s for it.
 *
 * @param options.servers `address` or `address:port` of each name server (`WEBHOOK_DNS_SERVERS`); empty for the machine's own
 * @throws {StartupError} when a server is not an IP address with an optional port.
 */
export function createResolver({ servers }: { readonly servers: readonly string[] }): NameServer {
  // what is no address is told now, not at the first name
  openChannel(servers);
  /** Of the names that are asked for in this turn: the two questions of a name share one. */
  const channels = new Map<string, Resolver>();

  function channelOf(name: string): Resolver {
    const known = channels.get(name);
    if (known !== undefined) return known;
    const channel = openChannel(servers);
    channels.set(name, channel);
    queueMicrotask(() => channels.delete(name));
    return channel;
  }

  return { resolve4: (name) => channelOf(name).resolve4(name), resolve6: (name) => channelOf(name).resolve6(name) };
}

/**
 * What c-ares learns it keeps by channel: after three quick answers it gave up any other name after 0.25 s and 0.5 s more. Slow names
 * failed, and 200 silent ones several times as often as they should: another account's deliveries took a quarter more of the worker's time
 * (2026-11-22, Node 24.21; a channel of its own costs a name 0.06 ms). More tries on one channel, 4, asked twice as often, for 3 s.
 */
function openChannel(servers: readonly string[]): Resolver {
  // maxTimeout: c-ares doubles the time-out with each try. Node looks at it once a second, so that 2 s were 2 or 3.
  const channel = new Resolver({ timeout: 1_900, tries: 2, maxTimeout: 1_900 });
  if (servers.length === 0) return channel;
  try {
    channel.setServers(servers);
    return channel;
  } catch (cause) {
    throw new StartupError(
      `WEBHOOK_DNS_SERVERS: expected addresses such as 10.0.0.2 or [fd00::2]:53, found "${servers.join(', ')}"`,
      { cause },
    );
  }
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
