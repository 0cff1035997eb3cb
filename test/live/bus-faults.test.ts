import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readMetric } from '../support/api-user.ts';
import { type BusPair, measureLateness, openBusPair, untilOnBus, watchArrivals } from '../support/chaos/bus-pair.ts';
import { eventually } from '../support/eventually.ts';
import { channelPrefix } from '../support/installation.ts';
import { openRawSocket, stockClient, subscribeMessage } from '../support/live-client.ts';
import { settledHead, untilPublished } from '../support/live-handover.ts';
import { openNaiveWatch } from '../support/naive-watch.ts';
import { watchPositions } from '../support/position-watch.ts';
import { notesWrite } from '../support/probe-domain.ts';
import { countChannels, killSubscribers } from '../support/redis-server.ts';

interface Fault {
  /** Nothing but the lack of an answer tells of it. */
  readonly isSilent?: boolean;
  begin(pair: BusPair): unknown;
  end(pair: BusPair): unknown;
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'the subscribers are killed': { begin: ({ redis }) => killSubscribers(redis), end: () => {} },
  'only the reader is cut off': { begin: ({ wire }) => wire.cut(), end: ({ wire }) => wire.heal() },
  'the reader hears nothing': { isSilent: true, begin: ({ wire }) => wire.stall(), end: ({ wire }) => wire.heal() },
  'half of the messages are dropped': {
    begin: ({ messages }) => messages.drop(0.5),
    end: ({ messages }) => messages.drop(0),
  },
  'Redis is killed and comes back empty': { begin: ({ redis }) => redis.kill(), end: ({ redis }) => redis.start() },
  'Redis is frozen': { isSilent: true, begin: ({ redis }) => redis.freeze(), end: ({ redis }) => redis.thaw() },
  'Redis is paused': {
    // writes alone: with all paused nobody could end it
    begin: ({ redis }) => tellRedis(redis.url, 'PAUSE', '600000', 'WRITE'),
    end: ({ redis }) => tellRedis(redis.url, 'UNPAUSE'),
  },
};

/** From commit to frame while the bus is away, and from its return to the first frame that comes by it. */
const BOUND_MS = 2_000;
/** Past that bound; a silent connection is known by three pings, a second apart: past those, too. */
const FAULT_MS = { known: 2_500, silent: 4_500 };
/** With a cursor and without, in three groups: each kind once. */
const WATCHES = 6;

describe.concurrent('while Redis fails between two processes', () => {
  it.each(Object.keys(FAULTS))('nobody misses an event, gets one twice, or gets it late: %s', async (name) => {
    await using pair = withDispose(await openBusPair());
    const { publisher, reader } = pair;
    const client = stockClient(reader.wsUrl, reader.key);
    const { cursor } = await notesWrite(publisher, { count: 1 });
    const start = await settledHead(publisher, cursor);
    const after = (await publisher.post('{ head }')).data.head;
    const watches = Array.from({ length: WATCHES }, (_, at) =>
      watchPositions(
        client,
        at % 2 === 0 ? after : undefined,
        `subscription ($after: String) { events(after: $after) { position p${at % 3}: position } }`,
      ),
    );
    const arrivals = await watchArrivals(client, publisher);
    await eventually(async () => {
      await notesWrite(publisher, { count: 1 });
      return watches.every((watch) => watch.positions().length > 0);
    });
    await untilOnBus({ ...pair, arrivals });

    const fault = FAULTS[name];
    await fault?.begin(pair);
    // not healed before all have come
    const late = await measureLateness({ publisher, arrivals }, FAULT_MS[fault?.isSilent ? 'silent' : 'known']);
    let latest = '';
    for (let n = 0; n < 20; n++) latest = (await notesWrite(publisher, { count: 5 })).cursor;
    const head = await settledHead(publisher, latest);
    await eventually(() => (watches[0]?.positions().at(-1) ?? 0) >= head, { describe: 'events in spite of the fault' });
    await fault?.end(pair);
    const back = await untilOnBus({ ...pair, arrivals });
    // a busy machine makes everything late: by as much as it made a change slow
    expect(late.maxMs, JSON.stringify(late)).toBeLessThan(BOUND_MS + 2 * late.slowestChangeMs);
    expect(back.afterMs, JSON.stringify(back)).toBeLessThan(BOUND_MS + 2 * back.slowestMs);

    const { cursor: last } = await notesWrite(publisher, { count: 5 });
    const end = await settledHead(publisher, last);
    for (const [at, watch] of watches.entries()) {
      const from = at % 2 === 0 ? start : (watch.positions()[0] ?? 0) - 1;
      await watch.expectSuffix(from, end);
    }
    await client.dispose();
  });
});

describe('between two processes', () => {
  let pair: BusPair;
  beforeAll(async () => {
    pair = await openBusPair();
  });
  afterAll(() => pair.close());

  it('Redis has one channel for the account and the few for hints, however many subjects and filters there are', async () => {
    const { redis, reader, publisher } = pair;
    const prefix = await channelPrefix(reader);
    const count = () => countChannels(redis, prefix);
    const quiet = await count();
    const sockets = [];
    for (let at = 0; at < SOCKETS; at++) {
      const socket = await openRawSocket(reader.wsUrl, { key: reader.key });
      sockets.push(socket);
      for (let n = 0; n < EACH; n++) socket.send(subscribeMessage(`${n}`, queryFor(at * EACH + n)));
    }
    const groups = async () => (await readMetric(reader, 'fanfare_stream_groups')) === SOCKETS * EACH;
    await eventually(groups, { describe: 'a group for each filter' });
    expect(await count()).toBe(quiet + 1);
    expect(quiet).toBeLessThanOrEqual(4);

    for (const n of [0, 277, 499]) {
      await notesWrite(publisher, { count: 1, subjectId: `note_${n}` });
      const next = await sockets[Math.floor(n / EACH)]?.find(({ type, id }) => type === 'next' && id === `${n % EACH}`);
      expect(next?.payload.data.events.subjectId).toBe(`note_${n}`);
    }
    expect(sockets.flatMap(({ received }) => received.filter(({ type }) => type === 'next'))).toHaveLength(3);
    await Promise.all(sockets.map((socket) => socket.end()));
    await eventually(async () => (await count()) === quiet, { describe: 'the channel to be left' });
  });

  it.each(['only the reader is cut off', 'half of the messages are dropped'])(
    'one that trusts the bus alone misses some: %s (negative control)',
    async (name) => {
      const { publisher, hurtUrl } = pair;
      const naive = await openNaiveWatch(publisher, { redisUrl: hurtUrl });
      await FAULTS[name]?.begin(pair);
      let cursor = '';
      for (let n = 0; n < 10; n++) cursor = (await notesWrite(publisher, { count: 5 })).cursor;
      const head = await settledHead(publisher, cursor);
      await untilPublished(publisher, head);
      await FAULTS[name]?.end(pair);
      await eventually(async () => {
        cursor = (await notesWrite(publisher, { count: 1 })).cursor;
        return naive.seen.has(await settledHead(publisher, cursor));
      });
      expect(naive.missing(head)).toBeGreaterThan(0);
      await naive.close();
    },
  );
});

const SOCKETS = 10;
const EACH = 50;

function queryFor(n: number): string {
  return `subscription { events(filter: { subjects: ["note_${n}"] }) { subjectId } }`;
}

async function tellRedis(url: string, ...args: string[]): Promise<void> {
  const client = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => null });
  await client.call('CLIENT', ...args);
  client.disconnect();
}

function withDispose(pair: BusPair): BusPair & AsyncDisposable {
  return { ...pair, [Symbol.asyncDispose]: pair.close };
}
