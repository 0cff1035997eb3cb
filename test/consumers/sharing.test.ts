import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ackEvents } from '../../src/consumers/ack.ts';
import { leaseEvents } from '../../src/consumers/lease.ts';
import { type ConsumerEngine, openConsumerEngine } from './consumer-engine.ts';
import { type Fate, leaseNaively, runCrowd, type Taken } from './crowd.ts';

const EVENTS = 2_000;
const SIZE = 8;
const ALL = Array.from({ length: EVENTS }, (_, at) => at + 1);

describe('eight that share a consumer', () => {
  let engine: ConsumerEngine;
  let made = 0;
  const open = async () => engine.create({ name: `crowd-${++made}`, startAfter: engine.cursorOf(0) });
  const isDone = (name: string) => async () => (await engine.consumer(name))?.position === String(EVENTS);

  /** By GraphQL, as clients do. */
  function taker(name: string, args: () => Readonly<Record<string, unknown>>): () => Promise<Taken | undefined> {
    return async () => {
      const { events, cursor } = await engine.poll({ name, ...args() });
      if (cursor === null) return undefined;
      const ack = async () => void (await engine.ack(name, cursor));
      return { positions: events.map(({ position }) => Number(position)), ack };
    };
  }

  beforeAll(async () => {
    engine = await openConsumerEngine('postgres');
    await engine.writeNotes(ALL.map(String));
  });
  afterAll(() => engine.close());

  it('get each event once between them, in order within a batch', async () => {
    const { name } = await open();
    const random = numbers(1);
    const take = taker(name, () => ({ first: 1 + (random() % 60) }));
    const { worked, batches } = await runCrowd({ size: SIZE, take, isDone: isDone(name) });
    expect(worked.toSorted(ascending)).toEqual(ALL);
    for (const batch of batches) expect(batch).toEqual(batch.toSorted(ascending));
  });

  it('lose none, though some crash and some ack late', async () => {
    const { name } = await open();
    const random = numbers(2);
    const fate = (): Fate => (['crashed', 'late', 'done', 'done', 'done'] as const)[random() % 5] ?? 'done';
    // short leases: a crash is made up for within the test
    const take = taker(name, () => ({ first: 1 + (random() % 60), leaseSeconds: 1, waitMs: 2_000 }));
    const { worked, fates } = await runCrowd({ size: SIZE, take, isDone: isDone(name), fate });
    expect([...new Set(worked)].sort(ascending)).toEqual(ALL);
    expect(fates.crashed).toBeGreaterThan(5);
    expect(fates.late).toBeGreaterThan(5);
    expect(await engine.consumer(name)).toMatchObject({ behind: 0, leases: [] });
  });

  it('get some twice without the lock (negative control)', async () => {
    const { id: consumerId } = await open();
    const { database } = engine.services;
    const take = async (): Promise<Taken | undefined> => {
      const range = await leaseNaively(database, { consumerId, first: 20 });
      return range && { positions: ALL.slice(range.from, range.to), ack: () => ackAt(consumerId, range.to) };
    };
    const { worked } = await runCrowd({ size: SIZE, take, isDone: async () => true });
    expect(worked.length).toBeGreaterThan(EVENTS);
  });

  it('get each once from the statement itself, at any speed', async () => {
    const { id: consumerId } = await open();
    const { db } = engine.services.database;
    const take = async (): Promise<Taken | undefined> => {
      const lease = await leaseEvents(db, { accountId: 'acc_default', consumerId, first: 7, leaseSeconds: 60 });
      if (lease.outcome !== 'LEASED') return undefined;
      return { positions: ALL.slice(lease.from, lease.to), ack: () => ackAt(consumerId, lease.to) };
    };
    const { worked } = await runCrowd({ size: SIZE, take, isDone: async () => true });
    expect(worked.toSorted(ascending)).toEqual(ALL);
  });

  it('may hold a bounded number of leases at a time', async () => {
    const { id: consumerId } = await open();
    const { db } = engine.services.database;
    const request = { accountId: 'acc_default', consumerId, first: 1, leaseSeconds: 60, maxLeases: 3 };
    for (let count = 0; count < 3; count++) await leaseEvents(db, request);
    expect(await leaseEvents(db, request)).toEqual({ outcome: 'FULL', until: expect.any(Date) });
    await ackAt(consumerId, 2);
    expect(await leaseEvents(db, request)).toMatchObject({ outcome: 'LEASED', from: 3, to: 4 });
  });

  it('find it gone or alive, and nothing between, when it is deleted under them', async () => {
    const { id: consumerId } = await open();
    const { db } = engine.services.database;
    const request = { accountId: 'acc_default', consumerId, first: 5, leaseSeconds: 60 };
    const polls = Array.from({ length: 40 }, () => leaseEvents(db, request));
    const end = db.deleteFrom('fanfare.consumer').where('id', '=', consumerId).execute();
    const outcomes = (await Promise.all(polls)).map(({ outcome }) => outcome);
    await end;
    expect(outcomes.filter((outcome) => outcome !== 'LEASED' && outcome !== 'GONE')).toEqual([]);
    expect(await leaseEvents(db, request)).toEqual({ outcome: 'GONE' });
    const left = await db
      .selectFrom('fanfare.consumer_lease')
      .selectAll()
      .where('consumer_id', '=', consumerId)
      .execute();
    expect(left).toEqual([]);
  });

  async function ackAt(consumerId: string, position: number): Promise<void> {
    await ackEvents({ db: engine.services.database.db as never, accountId: 'acc_default' }, consumerId, position);
  }
});

/** Random numbers that are the same in each run. */
function numbers(seed: number): () => number {
  const [given = []] = fc.sample(fc.array(fc.nat(), { minLength: 5_000, maxLength: 5_000 }), { seed, numRuns: 1 });
  let at = 0;
  return () => given[at++ % given.length] ?? 0;
}

function ascending(a: number, b: number): number {
  return a - b;
}
