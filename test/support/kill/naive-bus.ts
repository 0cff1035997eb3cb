import { Redis } from 'ioredis';

/** Trusts the bus alone, by a stock client that reconnects: the negative control for Redis. */
export interface NaiveBus {
  readonly ids: ReadonlySet<string>;
  close(): void;
}

/** Hears every shard of the one installation on this Redis. */
export async function openNaiveBus(url: string): Promise<NaiveBus> {
  const redis = new Redis(url, { retryStrategy: () => 50, maxRetriesPerRequest: null });
  redis.on('error', () => {}); // it comes back by itself
  const ids = new Set<string>();
  redis.on('pmessage', (_pattern, _channel, message: string) => {
    // what the relay publishes
    const { events = [] } = JSON.parse(message) as { readonly events?: readonly { readonly id: string }[] };
    for (const { id } of events) ids.add(id);
  });
  await redis.psubscribe('*shard.*');
  return { ids, close: () => redis.disconnect() };
}
