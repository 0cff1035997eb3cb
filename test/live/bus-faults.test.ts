import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { stockClient } from '../support/live-client.ts';
import { settledHead, untilPublished } from '../support/live-handover.ts';
import { openNaiveWatch } from '../support/naive-watch.ts';
import { watchPositions } from '../support/position-watch.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { startTestRedis } from '../support/redis.ts';
import { killSubscribers, type RedisServer } from '../support/redis-server.ts';
import { startSecondApp } from '../support/second-app.ts';
import { openTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { toyMigrations } from '../support/toy-domain.ts';

describe('while Redis fails between two processes', () => {
  let redis: RedisServer;
  let proxy: TcpProxy;
  let publisher: TestApp;
  let reader: TestApp;
  beforeAll(async () => {
    redis = await startTestRedis();
    proxy = await openTcpProxy(redis);
    const { domain } = createProbeDomain();
    publisher = await startApp({
      backend: 'postgres and redis',
      domain,
      domainMigrations: toyMigrations,
      env: { REDIS_URL: redis.url },
    });
    // stamps and publishes nothing: all it has comes by the bus, or out of Postgres
    reader = await startSecondApp(publisher, { domain, env: { REDIS_URL: proxy.through(redis.url), ROLES: 'api' } });
  });
  afterAll(async () => {
    await reader.stop();
    await publisher.stop();
    await proxy.close();
    await redis.close();
  });

  const faults: Record<string, { begin(): Promise<void> | void; end(): Promise<void> | void }> = {
    'the subscribers are killed': { begin: () => killSubscribers(redis), end: () => {} },
    'only the reader is cut off': { begin: () => proxy.cut(), end: () => proxy.heal() },
    'the reader hears nothing': { begin: () => proxy.stall(), end: () => proxy.heal() },
    'Redis is killed and comes back empty': { begin: () => redis.kill(), end: () => redis.start() },
    'Redis is frozen': { begin: () => redis.freeze(), end: () => redis.thaw() },
  };

  it.each(Object.keys(faults))('nobody misses an event or gets one twice: %s', async (name) => {
    const fault = faults[name];
    const client = stockClient(reader.wsUrl, reader.key);
    const { cursor } = await notesWrite(publisher, { count: 1 });
    const start = await settledHead(publisher, cursor);
    const after = (await publisher.post('{ head }')).data.head;
    const watches = Array.from({ length: 10 }, (_, at) =>
      watchPositions(
        client,
        at % 2 === 0 ? after : undefined,
        `subscription ($after: String) { events(after: $after) { position p${at % 3}: position } }`,
      ),
    );
    await eventually(async () => {
      await notesWrite(publisher, { count: 1 });
      return watches.every((watch) => watch.positions().length > 0);
    });

    await fault?.begin();
    let latest = '';
    for (let n = 0; n < 40; n++) latest = (await notesWrite(publisher, { count: 5 })).cursor;
    const head = await settledHead(publisher, latest);
    // not healed before they have come
    const [first] = watches;
    await eventually(() => (first?.positions().at(-1) ?? 0) >= head, { describe: 'events in spite of the fault' });
    await fault?.end();
    const { cursor: last } = await notesWrite(publisher, { count: 5 });
    const end = await settledHead(publisher, last);
    for (const [at, watch] of watches.entries()) {
      const from = at % 2 === 0 ? start : (watch.positions()[0] ?? 0) - 1;
      await watch.expectSuffix(from, end);
    }
    await client.dispose();
  });

  it('a process that trusts the bus alone misses some', async () => {
    const naive = await openNaiveWatch(publisher, { redisUrl: proxy.through(redis.url) });
    await proxy.cut();
    let cursor = '';
    for (let n = 0; n < 10; n++) cursor = (await notesWrite(publisher, { count: 5 })).cursor;
    const head = await settledHead(publisher, cursor);
    await untilPublished(publisher, head);
    await proxy.heal();
    await eventually(async () => {
      cursor = (await notesWrite(publisher, { count: 1 })).cursor;
      return naive.seen.has(await settledHead(publisher, cursor));
    });
    expect(naive.missing(head)).toBeGreaterThan(0);
    await naive.close();
  });
});
