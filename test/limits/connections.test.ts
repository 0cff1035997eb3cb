import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import type { ConnectionLimit } from '../../src/limits/connections.ts';
import { createMemoryConnectionLimit } from '../../src/limits/memory.ts';
import { connectRedisConnectionLimit } from '../../src/limits/redis.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { eventually } from '../support/eventually.ts';
import { redisUrl, startTestRedis } from '../support/redis.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

interface Node extends ConnectionLimit {
  readonly observed: readonly Observation[];
  /** Stops renewing, as a process that was killed or frozen. */
  stop(): Promise<void>;
}

interface NodeOptions {
  readonly url?: string;
  readonly prefix?: string;
  readonly limit: number;
  readonly renewMs?: number;
  readonly timeoutMs?: number;
}

/** A process of an installation, renewing what it holds. */
async function openNode({ url = redisUrl(), prefix = `ff:${randomUUID()}:`, ...options }: NodeOptions): Promise<Node> {
  const observed: Observation[] = [];
  const limit = await connectRedisConnectionLimit({
    url,
    prefix,
    node: randomUUID(),
    observe: (observation) => observed.push(observation),
    ...options,
  });
  const ending = new AbortController();
  const running = limit.run(ending.signal);
  const stop = async () => {
    ending.abort();
    await running;
  };
  const close = async () => {
    await stop();
    await limit.close();
  };
  opened.push({ close });
  return { ...limit, observed, stop, close };
}

const takeMany = async (limits: readonly Pick<ConnectionLimit, 'take'>[], count: number, owner = 'key_a') => {
  const taken = await Promise.all(limits.flatMap((limit) => Array.from({ length: count }, () => limit.take(owner))));
  return taken.filter(Boolean).length;
};

describe.each([
  ['in memory', async (limit: number) => createMemoryConnectionLimit({ limit })],
  ['on Redis', (limit: number) => openNode({ limit })],
] as const)('a limit %s', (_name, open) => {
  it('grants as many places as there are, to each owner', async () => {
    const limit = await open(3);
    expect(await takeMany([limit], 50)).toBe(3);
    expect(await limit.take('key_a')).toBe(false);
    expect(await takeMany([limit], 2, 'key_b')).toBe(2);
    expect(limit.held()).toBe(5);
  });

  it('grants a place again that was given back', async () => {
    const limit = await open(2);
    await takeMany([limit], 2);
    limit.release('key_a');
    expect(await takeMany([limit], 2)).toBe(1);
    limit.release('key_b'); // never held
    expect(limit.held()).toBe(2);
  });

  it('gives nothing away by a release too many', async () => {
    const limit = await open(1);
    await limit.take('key_a');
    for (let n = 0; n < 3; n++) limit.release('key_a');
    expect(await takeMany([limit], 3)).toBe(1);
  });

  it('ends 1,000 interleaved takes and releases at nothing', async () => {
    const limit = await open(100);
    const one = async (owner: string) => {
      while (!(await limit.take(owner))) await nextTurn();
      await nextTurn();
      limit.release(owner);
    };
    await Promise.all(Array.from({ length: 1_000 }, (_, at) => one(`key_${at % 7}`)));
    expect(limit.held()).toBe(0);
    for (let owner = 0; owner < 7; owner++) expect(await takeMany([limit], 101, `key_${owner}`)).toBe(100);
  });

  it('is harmless when closed twice', async () => {
    const limit = await open(1);
    await limit.take('key_a');
    await limit.close();
    await limit.close();
    limit.release('key_a');
    expect(limit.held()).toBe(0);
  });
});

/** Looks, then acts: what a limit without one step for both does. */
function naiveLimit(redis: Redis, key: string, limit: number): Pick<ConnectionLimit, 'take'> {
  return {
    async take() {
      if (Number((await redis.get(key)) ?? 0) >= limit) return false;
      await redis.incr(key);
      return true;
    },
  };
}

describe('processes on one Redis', () => {
  const installation = (options: Omit<NodeOptions, 'prefix'>) => {
    const prefix = `ff:${randomUUID()}:`;
    return () => openNode({ ...options, prefix });
  };

  it('never hold more than the limit together, however they race', async () => {
    const open = installation({ limit: 20 });
    const nodes = [await open(), await open(), await open()];
    for (let round = 0; round < 20; round++) {
      expect(await takeMany(nodes, 15, `key_${round}`)).toBe(20);
      for (const node of nodes) for (let n = 0; n < 15; n++) node.release(`key_${round}`);
    }
    for (const node of nodes) expect(node.held()).toBe(0);
  });

  it('would hold more with a limit that looks before it acts', async () => {
    const [one, other] = [new Redis(redisUrl()), new Redis(redisUrl())];
    const key = `ff:${randomUUID()}:naive`;
    expect(await takeMany([naiveLimit(one, key, 20), naiveLimit(other, key, 20)], 15)).toBeGreaterThan(20);
    await one.del(key);
    for (const redis of [one, other]) redis.disconnect();
  });

  it('give the places of a closed process to the others at once', async () => {
    const open = installation({ limit: 4 });
    const [leaving, staying] = [await open(), await open()];
    await takeMany([leaving], 3);
    await leaving.close();
    expect(await takeMany([staying], 5)).toBe(4);
  });

  it('get the places of a killed process when its entries run out, and keep their own', async () => {
    const open = installation({ limit: 4, renewMs: 100 });
    const [killed, staying, third] = [await open(), await open(), await open()];
    await takeMany([killed], 2);
    await takeMany([staying], 2);
    expect(await third.take('key_a')).toBe(false);
    await killed.stop();
    await eventually(() => third.take('key_a'));
    await eventually(() => third.take('key_a'));
    // the living one's have outlived a dead one's
    expect(await takeMany([third], 3)).toBe(0);
    expect(staying.held()).toBe(2);
  });

  it('leave nothing on Redis when nothing is held', async () => {
    const prefix = `ff:${randomUUID()}:`;
    const node = await openNode({ prefix, limit: 10 });
    for (let n = 0; n < 100; n++) await node.take(`key_${n}`);
    for (let n = 0; n < 100; n++) node.release(`key_${n}`);
    const redis = new Redis(redisUrl());
    await eventually(async () => (await redis.keys(`${prefix}connections:*`)).length === 0);
    await node.close();
    await eventually(async () => (await redis.keys(`${prefix}*`)).length === 0);
    redis.disconnect();
  });
});

describe('while Redis is away', () => {
  it('each process keeps to its share, and all is registered again when it is back', { timeout: 60_000 }, async () => {
    const redis = await startTestRedis();
    opened.push(redis);
    const prefix = `ff:${randomUUID()}:`;
    const open = () => openNode({ url: redis.url, prefix, limit: 10, renewMs: 200 });
    const [one, other] = [await open(), await open()];
    await takeMany([one], 3);
    await eventually(async () => (await nodesOn(redis.url, prefix)) === 2);
    // both have heard of each other by their next call
    await Promise.all([one, other].map((node) => node.take('key_b')));
    await redis.kill(); // with all that it knew
    // neither open to all, nor closed to all
    expect(await takeMany([one], 20)).toBe(2);
    expect(await takeMany([other], 20)).toBe(5);
    other.release('key_a');
    expect(await takeMany([other], 3)).toBe(1);
    await redis.start();
    const recovered = ({ observed }: Node) => observed.some(({ name }) => name === 'loop.recovered');
    await eventually(() => recovered(one) && recovered(other));
    const admin = new Redis(redis.url);
    await eventually(async () => (await admin.hvals(`${prefix}connections:key_a`)).length === 2);
    admin.disconnect();
    expect(await takeMany([one, other], 10)).toBe(0);
    one.release('key_a');
    await eventually(() => other.take('key_a'));
    expect(await takeMany([one, other], 10)).toBe(0);
  });

  it('a Redis that is frozen keeps nobody waiting for longer than its time-out, and the next not at all', async () => {
    const redis = await startTestRedis();
    opened.push(redis);
    const node = await openNode({ url: redis.url, limit: 4, renewMs: 60_000, timeoutMs: 300 });
    expect(await node.take('key_a')).toBe(true);
    await redis.freeze();
    expect(await takeMany([node], 5)).toBe(3);
    // answered without a word from Redis, which has none
    expect(await node.take('key_a')).toBe(false);
    redis.thaw();
    await eventually(() => node.observed.some(({ name }) => name === 'loop.recovered'));
    expect(await node.take('key_a')).toBe(false);
    node.release('key_a');
    await eventually(() => node.take('key_a'));
  });

  it('a process starts all the same', async () => {
    const node = await openNode({ url: 'redis://127.0.0.1:1', limit: 2, timeoutMs: 200 });
    expect(await takeMany([node], 5)).toBe(2);
    expect(node.observed.some(({ name }) => name === 'loop.failed')).toBe(true);
  });
});

async function nodesOn(url: string, prefix: string): Promise<number> {
  const redis = new Redis(url);
  try {
    return await redis.zcard(`${prefix}nodes`);
  } finally {
    redis.disconnect();
  }
}
