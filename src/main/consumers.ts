import { provideConsumerServices } from '../consumers/field-services.ts';
import type { Waiting } from '../consumers/waiting.ts';
import type { EngineServices } from '../graphql/context.ts';
import { endedKey, type KeyStore } from '../identity/keys.ts';
import type { ShardFeeds } from '../live/feed.ts';
import { readShardOf } from '../outbox/read.ts';

export interface ConsumerOptions {
  readonly services: EngineServices;
  readonly feeds: ShardFeeds;
  readonly keys: KeyStore;
  /** Aborts when the process is told to stop: polls that wait are answered at once. */
  readonly draining: AbortSignal;
}

/** Lets the fields of consumers work in this process: polls that wait hear of events by the feeds of the live streams. */
export function provideConsumers({ services, feeds, keys, draining }: ConsumerOptions): Waiting {
  return provideConsumerServices(services, {
    draining,
    watch: async (accountId, ring) => {
      const shard = await readShardOf(services.database.db, accountId);
      return feeds.attach({ shard, accountId }, ring);
    },
    refresh: async (principal) => {
      const now = (await keys.refresh([principal.id])).get(principal.id);
      if (now === undefined) throw endedKey();
      // of its row: what else it was narrowed to stays
      return { ...principal, scopes: now.scopes, expiresAt: now.expiresAt };
    },
  });
}
