import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Bus, BusListener } from '../src/bus/bus.ts';
import { createMemoryBus } from '../src/bus/memory.ts';
import { connectRedisBus, type RedisBusOptions } from '../src/bus/redis.ts';
import type { Observation } from '../src/runtime/observe.ts';
import { type BusEnds, countLostAfterSubscribe, describeBus, heardBy, openFence } from './support/bus-conformance.ts';
import { eventually } from './support/eventually.ts';
import { redisUrl, startTestRedis } from './support/redis.ts';
import type { RedisServer } from './support/redis-server.ts';
import { openTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';

const anInstallation = () => `ff:${randomUUID()}:`;

describeBus('memory', async () => {
  const observed: Observation[] = [];
  const bus = createMemoryBus({ observe: (observation) => observed.push(observation) });
  return { publisher: bus, subscriber: bus, stranger: createMemoryBus(), observed };
});

describe('over a shared Redis', () => {
  let admin: Redis;
  /** A longer way for subscribers: on one as short as the publisher's, a SUBSCRIBE nobody awaits still wins each race. */
  let detour: TcpProxy;
  beforeAll(async () => {
    admin = new Redis(redisUrl());
    const { hostname, port } = new URL(redisUrl());
    detour = await openTcpProxy({ host: hostname, port: Number(port) });
  });
  afterAll(async () => {
    admin.disconnect();
    await detour.close();
  });

  const countSubscriptions = async (channel: string) => {
    const [, count] = await admin.pubsub('NUMSUB', channel);
    return Number(count);
  };

  describeBus('Redis', async () => {
    const observed: Observation[] = [];
    const prefix = anInstallation();
    const url = redisUrl();
    const [publisher, subscriber, stranger] = await Promise.all([
      connectRedisBus({ url, prefix }),
      connectRedisBus({ url: detour.through(url), prefix, observe: (observation) => observed.push(observation) }),
      connectRedisBus({ url: databaseOf(url, 3), prefix: anInstallation() }),
    ]);
    return {
      publisher,
      subscriber,
      stranger,
      observed,
      countSubscriptions: (channel) => countSubscriptions(prefix + channel),
    };
  });

  it('fails the race test with a bus that subscribes unconfirmed', async () => {
    const naive = naiveBus({ publishing: redisUrl(), subscribing: detour.through(redisUrl()) });
    const lost = await countLostAfterSubscribe(naive, 100);
    naive.close();
    expect(lost).toBeGreaterThan(0);
  });

  it('publishes across database numbers within an installation', async () => {
    const prefix = anInstallation();
    const publisher = await connectRedisBus({ url: databaseOf(redisUrl(), 0), prefix });
    const subscriber = await connectRedisBus({ url: databaseOf(redisUrl(), 3), prefix });
    const heard: string[] = [];
    await subscriber.subscribe('wake', heardBy(heard));
    await publisher.publish('wake', 'hint');
    await eventually(() => heard.length === 1);
    await Promise.all([publisher.close(), subscriber.close()]);
  });

  it('shares one SUBSCRIBE between the listeners of a process', async () => {
    const prefix = anInstallation();
    const bus = await connectRedisBus({ url: redisUrl(), prefix });
    const subscribe = () => bus.subscribe('shard.0', heardBy([]));
    const [first, ...others] = await Promise.all([subscribe(), subscribe(), subscribe()]);
    expect(await countSubscriptions(`${prefix}shard.0`)).toBe(1);
    await Promise.all(others.map((subscription) => subscription.close()));
    expect(await countSubscriptions(`${prefix}shard.0`)).toBe(1);
    await first.close();
    await first.close();
    expect(await countSubscriptions(`${prefix}shard.0`)).toBe(0);
    await bus.close();
  });
});

describe('the Redis bus at start', () => {
  const start = (url: string) => connectRedisBus({ url, prefix: anInstallation() });
  const withPassword = (password: string) => {
    const url = new URL(redisUrl());
    url.password = password;
    return url.href;
  };

  it('says which server it could not reach, without the password', async () => {
    await expect(start('redis://app:hunter2@127.0.0.1:1/5')).rejects.toMatchObject({
      name: 'StartupError',
      message: "can't reach Redis at redis://127.0.0.1:1/5: connect ECONNREFUSED 127.0.0.1:1",
    });
  });

  it('says that the password is wrong, and keeps it out of the error', async () => {
    const error = await start(withPassword('hunter2')).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'StartupError', message: expect.stringContaining('WRONGPASS') });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hunter2');
  });

  it('refuses a URL that is not of Redis, without repeating it', async () => {
    for (const url of ['hunter2', 'http://hunter2@localhost', '']) {
      const error = await start(url).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ name: 'StartupError', message: expect.stringContaining('redis://user:password@') });
      expect(inspect(error, { depth: 10 })).not.toContain('hunter2');
    }
  });

  it('refuses a server older than 7', async () => {
    const older = await presentedAsRedis6(redisUrl());
    await expect(start(older.url)).rejects.toMatchObject({
      name: 'StartupError',
      message: expect.stringMatching(
        /^redis:\/\/127\.0\.0\.1:\d+.*: Redis 7 or newer is needed, the server says it is 6\./,
      ),
    });
    await older.close();
  });

  it('gives up on a server that accepts and is silent', async () => {
    const silent = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number }; // listens on TCP
    const options = { url: `redis://127.0.0.1:${port}`, prefix: anInstallation(), openTimeoutMs: 200 };
    await expect(connectRedisBus(options)).rejects.toMatchObject({
      message: expect.stringContaining('no answer within 200 ms'),
    });
    silent.close();
  });
});

describe('the Redis bus under faults', () => {
  let redis: RedisServer;
  let wire: TcpProxy;
  const buses: Bus[] = [];
  beforeAll(async () => {
    redis = await startTestRedis();
    wire = await openTcpProxy({ port: redis.port });
  });
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()));
  });
  afterAll(async () => {
    await wire.close();
    await redis.close();
  });

  const connectBus = async (options: Partial<RedisBusOptions> = {}) => {
    const quick = { timeoutMs: 1_500, openTimeoutMs: 3_000, pingEveryMs: 200, backoff: { baseMs: 10, capMs: 50 } };
    const bus = await connectRedisBus({ url: wire.through(redis.url), prefix: anInstallation(), ...quick, ...options });
    buses.push(bus);
    return bus;
  };

  const nothing = () => {};
  const faults: {
    readonly fault: string;
    readonly inflict: () => Promise<void> | void;
    readonly mend: () => Promise<void> | void;
  }[] = [
    { fault: 'CLIENT KILL', inflict: () => killSubscribers(redis.url), mend: nothing },
    { fault: 'kill -9 of the server', inflict: () => redis.kill(), mend: () => redis.start() },
    { fault: 'an orderly restart', inflict: () => redis.stop(), mend: () => redis.start() },
    { fault: 'a frozen server', inflict: () => redis.freeze(), mend: () => redis.thaw() },
    { fault: 'a cut wire', inflict: () => wire.cut(), mend: () => wire.heal() },
    { fault: 'a silent partition', inflict: () => wire.stall(), mend: () => wire.heal() },
  ];

  for (const { fault, inflict, mend } of faults)
    it(`interrupts and resumes over ${fault}`, async () => {
      const observed: Observation[] = [];
      const bus = await connectBus({ observe: (observation) => observed.push(observation) });
      const told: string[] = [];
      await bus.subscribe('shard.0', recorder(told));
      await inflict();
      await eventually(() => told.includes('interrupted'));
      await mend();
      await eventually(() => told.includes('resumed'));
      await eventually(() => bus.publish('shard.0', 'after'));
      await eventually(() => told.includes('after'));
      expect(told).toEqual(['interrupted', 'resumed', 'after']);
      await eventually(() => namesOn('subscribe', observed).length === 2);
      expect(namesOn('subscribe', observed)).toEqual(['bus.interrupted', 'bus.resumed']);
    });

  it('publishes fast or not at all while the server is gone, and keeps nothing for later', async () => {
    const observed: Observation[] = [];
    const timeoutMs = 20_000;
    const bus = await connectBus({ timeoutMs, observe: (observation) => observed.push(observation) });
    const told: string[] = [];
    await bus.subscribe('shard.0', recorder(told));
    await redis.kill();
    const beganAt = performance.now();
    const outcomes = await Promise.allSettled(Array.from({ length: 1_000 }, () => bus.publish('shard.0', 'lost')));
    expect(performance.now() - beganAt).toBeLessThan(timeoutMs / 2);
    expect(outcomes.every((outcome) => outcome.status === 'rejected' && outcome.reason.code === 'UNAVAILABLE')).toBe(
      true,
    );
    expect(observed.filter(({ name }) => name === 'bus.publish_failed')).toHaveLength(1);
    await redis.start();
    await eventually(() => told.includes('resumed'));
    await eventually(() => bus.publish('shard.0', 'after'));
    await eventually(() => told.includes('after'));
    expect(told).toEqual(['interrupted', 'resumed', 'after']);
  });

  it('waits for a frozen server once, then rejects at once', async () => {
    const timeoutMs = 2_000;
    const bus = await connectBus({ timeoutMs, pingEveryMs: 60_000 });
    await redis.freeze();
    const beganAt = performance.now();
    await expect(bus.publish('wake', 'hint')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(performance.now() - beganAt).toBeGreaterThan(0.8 * timeoutMs);
    const triedAt = performance.now();
    await expect(bus.publish('wake', 'hint')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(performance.now() - triedAt).toBeLessThan(0.8 * timeoutMs);
    redis.thaw();
    await eventually(() => bus.publish('wake', 'hint'));
  });

  it('subscribes while the server is down: interrupted now, resumed when it is back', async () => {
    const bus = await connectBus();
    const early: string[] = [];
    await bus.subscribe('shard.0', recorder(early));
    await redis.kill();
    await eventually(() => early.includes('interrupted'));
    const late: string[] = [];
    const subscription = await bus.subscribe('shard.1', recorder(late));
    expect(late).toEqual(['interrupted']);
    const gone: string[] = [];
    await (await bus.subscribe('shard.2', recorder(gone))).close();
    await redis.start();
    await eventually(() => late.includes('resumed'));
    await eventually(() => bus.publish('shard.1', 'after'));
    await eventually(() => late.includes('after'));
    await subscription.close();
    expect(gone).toEqual(['interrupted']);
    expect(await channelsOn(redis.url)).toHaveLength(1);
  });

  it('settles a subscription that a frozen server does not confirm', async () => {
    const bus = await connectBus();
    await redis.freeze();
    const told: string[] = [];
    await bus.subscribe('shard.0', recorder(told));
    expect(told).toEqual(['interrupted']);
    redis.thaw();
    await eventually(() => told.includes('resumed'));
  });

  it('closes while the server is down, frozen or being returned to', async () => {
    for (const { inflict, mend } of faults) {
      const bus = await connectBus();
      await bus.subscribe('wake', recorder([]));
      await inflict();
      await bus.close();
      await mend();
    }
    await eventually(async () => (await clientsOn(redis.url)).every((client) => !client.includes('fanfare-bus')));
  });

  it('does not take a stall of its own event loop for a dead link', async () => {
    const observed: Observation[] = [];
    const bus = await connectBus({ pingEveryMs: 20, observe: (observation) => observed.push(observation) });
    const fence = await openFence({ publisher: bus, subscriber: bus });
    for (let stall = 0; stall < 5; stall += 1) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200); // ten pings long
      await fence.pass();
    }
    expect(observed).toEqual([]);
  });

  it('keeps messages out of what it reports', async () => {
    const observed: Observation[] = [];
    const bus = await connectBus({ observe: (observation) => observed.push(observation) });
    await redis.freeze();
    const error = await bus.publish('wake', 'hunter2').catch((reason: unknown) => reason);
    redis.thaw();
    await eventually(() => observed.some(({ name }) => name === 'bus.publish_failed'));
    expect(inspect([error, observed], { depth: 10, showHidden: true })).not.toContain('hunter2');
    await eventually(() => bus.publish('wake', 'hint'));
  });
});

function recorder(told: string[]): BusListener {
  return {
    message: (text) => void told.push(text),
    interrupted: () => void told.push('interrupted'),
    resumed: () => void told.push('resumed'),
  };
}

function namesOn(link: string, observed: readonly Observation[]): readonly string[] {
  return observed.filter((observation) => observation.link === link).map(({ name }) => name);
}

function databaseOf(url: string, database: number): string {
  const led = new URL(url);
  led.pathname = `/${database}`;
  return led.href;
}

async function asked<T>(url: string, ask: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url);
  try {
    return await ask(redis);
  } finally {
    redis.disconnect();
  }
}

async function killSubscribers(url: string): Promise<void> {
  const killed = await asked(url, (redis) => redis.client('KILL', 'TYPE', 'PUBSUB'));
  expect(killed).toBe(1);
}

const channelsOn = (url: string) => asked(url, (redis) => redis.pubsub('CHANNELS'));

const clientsOn = async (url: string) => String(await asked(url, (redis) => redis.client('LIST'))).split('\n');

/** What the usual adapters do: SUBSCRIBE goes out (they wait even for the first read), and nobody awaits its acknowledgement. */
function naiveBus(urls: { publishing: string; subscribing: string }): BusEnds & { close(): void } {
  const publishing = new Redis(urls.publishing);
  const subscribing = new Redis(urls.subscribing);
  const listeners = new Map<string, BusListener>();
  subscribing.on('message', (channel: string, text: string) => listeners.get(channel)?.message(text));
  return {
    publisher: { publish: async (channel, message) => void (await publishing.publish(channel, message)) },
    subscriber: {
      async subscribe(channel, listener) {
        listeners.set(channel, listener);
        // The fence itself must stand: only what is measured is naive.
        if (channel === 'control') await subscribing.subscribe(channel);
        else subscribing.subscribe(channel).catch(() => {}); // ended by close
        return { close: async () => void (await subscribing.unsubscribe(channel)) };
      },
    },
    close() {
      publishing.disconnect();
      subscribing.disconnect();
    },
  };
}

/** The real server, through a wire on which it calls itself version 6. */
async function presentedAsRedis6(url: string): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { hostname, port } = new URL(url);
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    near.pipe(far);
    far.on('data', (bytes) =>
      near.write(bytes.toString('latin1').replace(/redis_version:\d/, 'redis_version:6'), 'latin1'),
    );
    near.on('close', () => far.destroy()).on('error', () => far.destroy());
    far.on('close', () => near.destroy()).on('error', () => near.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const presented = new URL(url);
  presented.port = String((server.address() as { port: number }).port); // listens on TCP
  return {
    url: presented.href,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
