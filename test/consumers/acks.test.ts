import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { prune } from '../../src/outbox/prune.ts';
import { observeNothing } from '../../src/runtime/observe.ts';
import {
  ACK,
  type ConsumerEngine,
  DELETE,
  openConsumerEngine,
  POLL,
  positions,
  positionsIn,
} from './consumer-engine.ts';

const EVENTS = 30;

describe.each(['postgres', 'pglite'] as const)('an ack on %s', (kind) => {
  let engine: ConsumerEngine;
  let name: string;
  let made = 0;
  const at = (position: number) => engine.cursorOf(position);
  /** A consumer of its own, from the start of the log, with these leases. */
  const open = async (...sizes: readonly number[]) => {
    name = `consumer-${++made}`;
    await engine.create({ name, startAfter: at(0) });
    for (const first of sizes) await engine.poll({ name, first });
  };

  beforeAll(async () => {
    engine = await openConsumerEngine(kind);
    await engine.writeNotes(Array.from({ length: EVENTS }, (_, each) => `note ${each}`));
  });
  afterAll(() => engine.close());

  it('of what was acked before, or of a place without a lease, changes nothing', async () => {
    await open(5, 5);
    await engine.ack(name, at(10));
    const before = { position: '0', leases: (await engine.consumer(name))?.leases };
    expect(before.leases).toHaveLength(1);
    expect(await engine.ack(name, at(10))).toMatchObject(before);
    expect(await engine.ack(name, at(8))).toMatchObject(before);
    await engine.ack(name, at(5));
    expect(await engine.ack(name, at(0))).toMatchObject({ position: '10', leases: [] });
  });

  it('counts though its lease ran out, as long as nobody has gone past it', async () => {
    await open(5);
    await engine.expire(name);
    expect(await engine.ack(name, at(5))).toMatchObject({ position: '5', leases: [] });
    expect(positionsIn(await engine.poll({ name, first: 2 }))).toEqual(['6', '7']);
  });

  it('that comes late takes no more for done than it was given', async () => {
    await open(5, 5);
    await engine.expire(name);
    expect(positionsIn(await engine.poll({ name, first: 2 }))).toEqual(['1', '2']);
    // the second batch's: the first one, whose events 3 to 5 nobody has acked, stays
    expect(await engine.ack(name, at(10))).toMatchObject({ position: '0' });
    // the first batch's: what another has now, 1 and 2, stays with it
    expect(await engine.ack(name, at(5))).toMatchObject({ position: '0', leases: [{ after: '0', to: '2' }] });
    expect(await engine.ack(name, at(2))).toMatchObject({ position: '10', leases: [] });
  });

  it('ahead of everything skips, unless a lease is open', async () => {
    await open(5);
    expect(await engine.fail(ACK, { variables: { name, cursor: at(12) } })).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('leases are open'),
    });
    await engine.expire(name);
    expect(await engine.ack(name, at(12))).toMatchObject({ position: '12', leases: [] });
    expect(positionsIn(await engine.poll({ name, first: 2 }))).toEqual(['13', '14']);
  });

  it('takes a commit cursor, and refuses what is no cursor of the account', async () => {
    await open();
    const { noteWrite } = await engine.run<{ noteWrite: { cursor: string } }>(
      'mutation { noteWrite(text: "x") { ... on NoteWriteSuccess { cursor } } }',
    );
    const events = await engine.stampedEvents();
    expect(await engine.ack(name, noteWrite.cursor)).toMatchObject({ position: String(events.length), behind: 0 });
    const foreign = engine.cursorOf(1, 'acc_other');
    for (const cursor of ['', 'x', foreign, at(events.length + 1)]) {
      expect(await engine.fail(ACK, { variables: { name, cursor } })).toMatchObject({ code: 'INVALID_CURSOR' });
    }
  });

  it('meets the end of its consumer', async () => {
    await open(5);
    expect(await engine.run(DELETE, { variables: { name } })).toMatchObject({
      consumerDelete: { id: expect.stringMatching(/^cns_/) },
    });
    for (const document of [ACK, POLL, DELETE]) {
      expect(await engine.fail(document, { variables: { name, cursor: at(5) } })).toMatchObject({ code: 'NOT_FOUND' });
    }
    const { rows } = await sql`select from fanfare.consumer_lease l
      where not exists (select from fanfare.consumer c where c.id = l.consumer_id)`.execute(
      engine.services.database.db,
    );
    expect(rows).toEqual([]);
  });
});

describe('a consumer whose place is gone', () => {
  let engine: ConsumerEngine;
  const at = (position: number) => engine.cursorOf(position);
  const setEpoch = (epoch: string) =>
    sql`update fanfare.installation set epoch = ${epoch}`.execute(engine.services.database.db);

  beforeAll(async () => {
    engine = await openConsumerEngine('postgres');
    await engine.writeNotes(Array.from({ length: EVENTS }, (_, each) => `note ${each}`));
  });
  afterEach(async () => {
    const { db } = engine.services.database;
    await sql`delete from fanfare.consumer`.execute(db);
  });
  afterAll(() => engine.close());

  it('says EPOCH_CHANGED after a restore, until a cursor of the new epoch is acked', async () => {
    const { db } = engine.services.database;
    const { epoch } = await db.selectFrom('fanfare.installation').select('epoch').executeTakeFirstOrThrow();
    await setEpoch(randomBytes(8).toString('hex'));
    await engine.create({ name: 'c', startAfter: at(20) });
    await engine.poll({ name: 'c', first: 5 });
    await setEpoch(epoch);
    expect(await engine.fail(POLL, { variables: { name: 'c' } })).toMatchObject({ code: 'EPOCH_CHANGED' });
    // also backwards: the log may have become shorter
    expect(await engine.ack('c', at(10))).toMatchObject({ position: '10', leases: [] });
    expect(positionsIn(await engine.poll({ name: 'c', first: 2 }))).toEqual(['11', '12']);
  });

  it('says CURSOR_EXPIRED with the earliest cursor, whose ack goes on from there', async () => {
    for (const name of ['behind', 'leased', 'there']) await engine.create({ name, startAfter: at(0) });
    for (const first of [10, 15, 5]) await engine.poll({ name: 'leased', first });
    await engine.ack('there', at(20));
    await forget(engine, 20);
    for (const name of ['behind', 'leased']) {
      const error = await expired(engine, name);
      expect(error).toEqual({ code: 'CURSOR_EXPIRED', earliestCursor: at(20) });
      expect(await engine.ack(name, at(20))).toMatchObject({ position: '20' });
    }
    expect(positionsIn(await engine.poll({ name: 'behind' }))).toEqual(positions(21, 30));
    // of the lease that spans the place, the rest is left; the one behind it is as it was
    expect(await engine.consumer('leased')).toMatchObject({
      leases: [
        { after: '20', to: '25' },
        { after: '25', to: '30' },
      ],
    });
    expect(positionsIn(await engine.poll({ name: 'there', first: 2 }))).toEqual(['21', '22']);
  });

  it('keeps within retention by what it looks through, though it wants none of it', async () => {
    const filter = { types: ['NOTE_EDITED'] };
    for (const name of ['polled', 'left']) await engine.create({ name, filter, startAfter: at(20) });
    expect(await engine.poll({ name: 'polled' })).toMatchObject({ events: [], behind: 0 });
    await forget(engine, 30);
    expect(await engine.poll({ name: 'polled' })).toMatchObject({ events: [] });
    // one that nobody polls can't know
    expect(await expired(engine, 'left')).toEqual({ code: 'CURSOR_EXPIRED', earliestCursor: at(30) });
  });
});

/** What a poll is told whose leases have run out. */
async function expired(engine: ConsumerEngine, name: string) {
  await engine.expire(name);
  const error: unknown = await engine.poll({ name }).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const { code, details } = error as { code: string; details: { earliestCursor: string } };
  return { code, earliestCursor: details.earliestCursor };
}

/** Lets retention drop the first events: moved into a partition of long ago, which goes as a whole. */
async function forget({ services }: ConsumerEngine, upTo: number): Promise<void> {
  const { db } = services.database;
  await sql`update fanfare.log set stamped_at = stamped_at - interval '30 days' where position <= ${upTo}`.execute(db);
  await prune(services.database, { retentionDays: 7 }, observeNothing);
}
