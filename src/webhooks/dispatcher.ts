import { Agent, type Dispatcher, Pool, ProxyAgent } from 'undici';
import { Carrier } from './carrier.ts';
import { type ConnectorOptions, createConnector } from './connection.ts';

export interface DispatcherOptions extends ConnectorOptions {
  /** An http or https forward proxy that every request tunnels through; the connector's check is then out of play. */
  readonly proxy: string | undefined;
}

/**
 * Makes the pool of connections that attempts share: HTTP/1.1, one request at a time on each, as many to one receiver as
 * attempts run at once. Bounds header blocks and idle time; the exchange itself is bounded by its caller's deadline.
 */
export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { connectTimeoutMs, proxy, ca } = options;
  const connector = createConnector(options);
  const limits = {
    allowH2: false,
    pipelining: 1,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: 0, // the deadline rules
    bodyTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS, // a receiver's hint can't hold an old answer of a name server longer
    maxRequestsPerClient: MAX_REQUESTS_PER_CONNECTION,
  };
  const toCarrier = (origin: string | URL, pool: object) => new Carrier(origin, pool, connector.timingsOf);
  const factory = (origin: string | URL, pool: object) => new Pool(origin, { ...pool, factory: toCarrier });
  if (proxy === undefined) return new Agent({ ...limits, factory, connect: connector.connect });
  return new ProxyAgent({
    ...limits,
    factory,
    uri: proxy,
    proxyTunnel: true,
    requestTls: { minVersion: 'TLSv1.2', timeout: connectTimeoutMs, ...(ca === undefined ? {} : { ca }) },
    proxyTls: { timeout: connectTimeoutMs },
    // A proxy that never answers CONNECT must not keep its request for undici's 300 s.
    clientFactory: (origin, pool) => new Pool(origin, { ...pool, headersTimeout: connectTimeoutMs }),
  });
}

const MAX_HEADER_BYTES = 16_384;
/** Shorter than the first retry's wait: on a receiver with no other traffic, each retry looks the name up anew. */
const KEEP_ALIVE_MS = 4_000;
const MAX_REQUESTS_PER_CONNECTION = 100;
