import type { Client } from 'graphql-ws';
import { startApp, type TestApp } from '../app.ts';
import { eventually } from '../eventually.ts';
import { seeded } from '../kill-embedded.ts';
import { createProbeDomain, notesWrite } from '../probe-domain.ts';
import { startTestRedis } from '../redis.ts';
import type { RedisServer } from '../redis-server.ts';
import { startSecondApp } from '../second-app.ts';
import { openTcpProxy, type TcpProxy } from '../tcp-proxy.ts';
import { toyMigrations } from '../toy-domain.ts';
import { type DroppingProxy, openDroppingProxy } from './dropping-proxy.ts';

/** Two processes on one database, with a Redis of their own between them that may be hurt. */
export interface BusPair {
  readonly redis: RedisServer;
  /** The reader's way to Redis: through both of these. */
  readonly wire: TcpProxy;
  readonly messages: DroppingProxy;
  /** The same way, for others. */
  readonly hurtUrl: string;
  readonly publisher: TestApp;
  /** Stamps and publishes nothing: all it has comes by the bus, or out of Postgres. */
  readonly reader: TestApp;
  close(): Promise<void>;
}

export async function openBusPair(): Promise<BusPair> {
  await using opening = new AsyncDisposableStack();
  const redis = await startTestRedis();
  opening.defer(redis.close);
  const messages = await openDroppingProxy(redis, seeded(1));
  opening.defer(messages.close);
  const wire = await openTcpProxy(messages);
  opening.defer(wire.close);
  const { domain } = createProbeDomain();
  const publisher = await startApp({
    backend: 'postgres and redis',
    domain,
    domainMigrations: toyMigrations,
    env: { REDIS_URL: redis.url },
  });
  opening.defer(publisher.stop);
  const hurtUrl = wire.through(redis.url);
  const reader = await startSecondApp(publisher, { domain, env: { REDIS_URL: hurtUrl, ROLES: 'api' } });
  opening.defer(reader.stop);
  const opened = opening.move();
  return { redis, wire, messages, hurtUrl, publisher, reader, close: () => opened.disposeAsync() };
}

/** When events came, by their subject. */
export interface Arrivals {
  /** Waits for it. @returns by `performance.now()` */
  of(subjectId: string): Promise<number>;
}

/** Subscribes to everything from now on; resolves when the stream is live. */
export async function watchArrivals(client: Client, publisher: TestApp): Promise<Arrivals> {
  const arrivedAt = new Map<string, number>();
  client.subscribe<{ events: { subjectId: string } }>(
    { query: 'subscription { events { subjectId } }' },
    {
      next: ({ data }) => void (data && arrivedAt.set(data.events.subjectId, performance.now())),
      error: () => {}, // what does not come, the test misses
      complete: () => {},
    },
  );
  await eventually(async () => {
    await notesWrite(publisher, { count: 1 });
    return arrivedAt.size > 0;
  });
  return {
    of: (subjectId) =>
      eventually(() => arrivedAt.get(subjectId) ?? false, { everyMs: 2, describe: `${subjectId} to come` }),
  };
}

export interface Lateness {
  /** The longest from a change's answer, which is after its commit, to its event's arrival, in ms. */
  readonly maxMs: number;
  /** The longest that a change took: how busy the machine is. */
  readonly slowestChangeMs: number;
  readonly events: number;
}

/** Writes event by event for so long, and waits for all of them. */
export async function measureLateness(
  { publisher, arrivals }: { readonly publisher: TestApp; readonly arrivals: Arrivals },
  forMs: number,
): Promise<Lateness> {
  const late: Promise<number>[] = [];
  let slowestChangeMs = 0;
  for (const startedAt = performance.now(); performance.now() - startedAt < forMs; ) {
    const askedAt = performance.now();
    const { ids } = await notesWrite(publisher, { count: 1 });
    const answeredAt = performance.now();
    slowestChangeMs = Math.max(slowestChangeMs, answeredAt - askedAt);
    late.push(arrivals.of(ids[0] ?? '').then((arrivedAt) => arrivedAt - answeredAt));
    await new Promise((resolve) => setTimeout(resolve, 40)); // the pace
  }
  return { maxMs: Math.max(...(await Promise.all(late))), slowestChangeMs, events: late.length };
}

/**
 * Writes event by event until one comes by the bus.
 * @returns how long after the call that one was written, and the slowest change meanwhile, in ms
 */
export async function untilOnBus({
  publisher,
  reader,
  arrivals,
}: Pick<BusPair, 'publisher' | 'reader'> & { readonly arrivals: Arrivals }): Promise<{
  afterMs: number;
  slowestMs: number;
}> {
  // what did not come by the bus was read from Postgres, which the reader reports
  const fills = () =>
    reader.observations.filter(({ name, events }) => name === 'feed.filled' && Number(events) > 0).length;
  const startedAt = performance.now();
  let slowestMs = 0;
  for (;;) {
    const before = fills();
    const askedAt = performance.now();
    const { ids } = await notesWrite(publisher, { count: 1 });
    const afterMs = performance.now() - startedAt;
    slowestMs = Math.max(slowestMs, performance.now() - askedAt);
    await arrivals.of(ids[0] ?? '');
    if (fills() === before) return { afterMs, slowestMs };
  }
}
