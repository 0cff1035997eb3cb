import { Redis } from 'ioredis';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type Observe, observeNothing } from '../runtime/observe.ts';
import type { ConnectionLimit } from './connections.ts';
import { type Claim, type ConnectionStore, createLedger } from './ledger.ts';

export interface RedisConnectionLimitOptions {
  /** `redis://` or `rediss://`. */
  readonly url: string;
  /** Begins every key's name: `ff:<installation>:`, as the bus's channels. */
  readonly prefix: string;
  /** Names this process among those of the installation; another one for each start. */
  readonly node: string;
  /** Connections of one owner, over all processes. */
  readonly limit: number;
  /** What is held is registered again this often, and runs out after three times as long. @default 5_000 (ms) */
  readonly renewMs?: number;
  /** The longest that Redis may take to answer. @default 1_000 (ms) */
  readonly timeoutMs?: number;
  /** Told `loop.failed` and `loop.recovered` of `limits.renew`, once per outage. */
  readonly observe?: Observe;
  readonly clock?: Clock;
}

/**
 * A limit over all processes that share a Redis: one small hash per owner, with a count for each process that holds any.
 * While Redis is away each process keeps to its share, the limit divided by the processes it last knew of; when it is
 * back, what each holds is registered again. A process that is killed gives its places back within 15 s.
 *
 * Resolves when Redis has answered or has not, in about a second at most: it need not be there.
 */
export async function connectRedisConnectionLimit(options: RedisConnectionLimitOptions): Promise<ConnectionLimit> {
  const { url, limit, renewMs = 5_000, timeoutMs = 1_000, observe = observeNothing, clock = systemClock } = options;
  const redis = new Redis(url, {
    lazyConnect: true,
    connectionName: 'fanfare-limits',
    connectTimeout: 5_000,
    commandTimeout: timeoutMs,
    enableOfflineQueue: false,
    enableReadyCheck: false, // a server still loading refuses the script
    autoResendUnfulfilledCommands: false,
    disconnectTimeout: 1, // ioredis would wait 2 s for a dead peer's goodbye
    retryStrategy: (times) => Math.min(50 * times, 1_000),
  });
  redis.on('error', () => {}); // each call tells of its own failure
  await Promise.race([redis.connect().catch(() => {}), clock.wait(timeoutMs)]);
  const store = storeOn(redis, { ...options, entryMs: 3 * renewMs });
  const ledger = createLedger({ store, limit, renewMs, observe, clock });
  return {
    ...ledger,
    async close() {
      await ledger.close();
      redis.disconnect();
    },
  };
}

type StoreOptions = Pick<RedisConnectionLimitOptions, 'prefix' | 'node' | 'limit'> & { readonly entryMs: number };

function storeOn(redis: Redis, { prefix, node, limit, entryMs }: StoreOptions): ConnectionStore {
  const nodesKey = `${prefix}nodes`;
  const keyOf = (owner: string) => `${prefix}connections:${owner}`;

  async function settle(claims: readonly Claim[]) {
    const keys = [nodesKey, ...claims.map(({ owner }) => keyOf(owner))];
    const numbers = claims.flatMap(({ held, wanted }) => [held, wanted]);
    try {
      const answer = await redis.eval(SETTLE, keys.length, ...keys, node, entryMs, limit, ...numbers);
      const [nodes = 1, ...granted] = answer as number[]; // what the script returns
      return { nodes, granted };
    } catch (error) {
      // a connection whose peer is gone closes by no one's word; a refusal of the server's has its reason there
      if (!(error instanceof Error && error.name === 'ReplyError')) redis.disconnect(true);
      throw withoutCommand(error);
    }
  }

  return {
    settle,
    async leave(owners) {
      const calls = redis.pipeline().zrem(nodesKey, node);
      for (const owner of owners) calls.hdel(keyOf(owner), node);
      await calls.exec();
    },
  };
}

/** ioredis hangs the command on its errors; the password of a handshake does not belong in a log. */
function withoutCommand(error: unknown): Error {
  return new Error(error instanceof Error ? error.message : 'unknown error');
}

/**
 * KEYS: the set of nodes, then one hash per owner: node → "count until". ARGV: node, entry's life in ms, limit, then what
 * is held and wanted of each owner. In one step, so that two processes can't both take the last place. Times are Redis's own.
 */
const SETTLE = `
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, life, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local till = string.format('%.0f', now + life)
redis.call('zadd', KEYS[1], till, me)
redis.call('zremrangebyscore', KEYS[1], '-inf', now)
redis.call('pexpire', KEYS[1], life)
local answer = { redis.call('zcard', KEYS[1]) }
for i = 2, #KEYS do
  local held, wanted, others = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1]), 0
  local entries = redis.call('hgetall', KEYS[i])
  for e = 1, #entries, 2 do
    if entries[e] ~= me then
      local count, ends = string.match(entries[e + 1], '^(%d+) (%d+)$')
      if tonumber(ends) > now then others = others + tonumber(count) else redis.call('hdel', KEYS[i], entries[e]) end
    end
  end
  local granted = math.max(0, math.min(wanted, limit - others - held))
  if held + granted > 0 then
    redis.call('hset', KEYS[i], me, string.format('%d %s', held + granted, till))
    redis.call('pexpire', KEYS[i], life)
  else
    redis.call('hdel', KEYS[i], me)
  end
  answer[i] = granted
end
return answer`;
