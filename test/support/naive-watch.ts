import { connectRedisBus } from '../../src/bus/redis.ts';
import { observeNothing } from '../../src/runtime/observe.ts';
import type { TestApp } from './app.ts';
import { channelPrefix } from './installation.ts';

/** What a careless server would do: replay up to the head, then trust the bus alone. The negative control of the live tests. */
export interface NaiveWatch {
  /** How many of the positions behind its start, up to `head`, it has not seen. */
  missing(head: number): number;
  readonly seen: ReadonlySet<number>;
  close(): Promise<void>;
}

const SHARDS = 16;

export interface NaiveWatchOptions {
  /** By which it listens. @default the app's own */
  readonly redisUrl?: string;
  /** What happens between its look at the log and its subscription to the bus. */
  readonly beforeListening?: () => Promise<void>;
}

export async function openNaiveWatch(
  app: TestApp,
  { redisUrl = app.env.REDIS_URL ?? '', beforeListening = async () => {} }: NaiveWatchOptions = {},
): Promise<NaiveWatch> {
  const answer = await app.post('{ events(last: 1) { nodes { position } } }');
  const from = Number(answer.data.events.nodes[0]?.position ?? 0);
  await beforeListening();
  const bus = await connectRedisBus({ url: redisUrl, prefix: await channelPrefix(app), observe: observeNothing });
  const seen = new Set<number>();
  const listener = {
    message(text: string) {
      const { events = [] } = JSON.parse(text) as { events?: { accountId: string; position: number }[] };
      for (const { accountId, position } of events) if (accountId === 'acc_default') seen.add(position);
    },
    interrupted: () => {},
    resumed: () => {},
  };
  await Promise.all(Array.from({ length: SHARDS }, (_, shard) => bus.subscribe(`shard.${shard}`, listener)));
  return {
    seen,
    missing: (head) =>
      Array.from({ length: head - from }, (_, at) => from + 1 + at).filter((each) => !seen.has(each)).length,
    close: () => bus.close(),
  };
}
