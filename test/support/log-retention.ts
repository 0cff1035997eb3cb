import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCursorCodec } from '../../src/outbox/cursor.ts';
import { claimKey, rememberOutcome } from '../../src/outbox/idempotency.ts';
import { resolveCursor } from '../../src/outbox/place.ts';
import { prune } from '../../src/outbox/prune.ts';
import { readEarliest, readHead, readStamp } from '../../src/outbox/read.ts';
import { systemClock } from '../../src/runtime/clock.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { authorOf, type Backend, type LogDatabase, openLog, wholeLog } from './log-database.ts';
import { noteWritten, written } from './log-domain.ts';
import { stampAll } from './log-sequencer.ts';

const DAY_MS = 86_400_000;
const cursors = createCursorCodec({ secret: Buffer.from('secret') }, '0123456789abcdef');

/** Live days of events and prunes with a clock that the test moves. `isLong`: weeks of them, too. */
export function describeRetention(kind: Backend, { isLong }: { readonly isLong: boolean }): void {
  describe(`retention on ${kind}`, () => {
    /** Weeks belong to the long form: they are not declared in the short one. */
    const itIfLong = (name: string, test: () => Promise<void>, timeoutMs?: number) => {
      if (isLong) it(name, test, timeoutMs);
    };
    let log: LogDatabase;
    let accountId: string;
    const observed: Observation[] = [];
    beforeEach(async () => {
      log = await openLog(kind);
      accountId = await log.addAccount();
      observed.length = 0;
    });
    afterEach(() => log.close());

    const pruneNow = () => prune(log.database, { retentionDays: 7 }, (observation) => observed.push(observation));
    const dropped = () => observed.flatMap((observation) => observation.dropped as string[]);
    const write = async () => {
      const emission = { subjectId: 'note_a', payload: written('') };
      return (await log.transact(authorOf(accountId), (tx) => tx.emit(noteWritten, emission))).lastEventId ?? '';
    };
    const liveDays = async (days: number, { isPruned = true, isStamped = true } = {}) => {
      const ids: string[] = [];
      for (let day = 0; day < days; day++) {
        ids.push(await write(), await write());
        if (isStamped) await stampAll(log.database);
        await log.advanceClock(DAY_MS);
        if (isPruned) await pruneNow();
      }
      return ids;
    };
    const positions = async () => (await wholeLog(log.database, accountId)).map(({ position }) => position);

    itIfLong('drops days of log and events, oldest first, and leaves a log without gap', async () => {
      const ids = await liveDays(20);
      const kept = await positions();
      expect(kept).toEqual(Array.from({ length: kept.length }, (_, at) => 40 - kept.length + 1 + at));
      expect([14, 16]).toContain(kept.length);
      for (const parent of ['log', 'event']) {
        const names = dropped().filter((name) => name.startsWith(parent));
        expect(names).toEqual(names.toSorted());
        expect(names.length).toBeGreaterThanOrEqual(12);
      }
      const { count } = await log.database.db
        .selectFrom('fanfare.event')
        .select(({ fn }) => fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow();
      expect(count).toBe(kept.length);

      const resolve = (cursor: string) =>
        resolveCursor({ database: log.database, cursors, clock: systemClock }, accountId, cursor);
      const earliestCursor = cursors.encode(accountId, { kind: 'position', position: 40 - kept.length });
      const expired = { code: 'CURSOR_EXPIRED', details: { earliestCursor } };
      await expect(resolve(cursors.encode(accountId, { kind: 'position', position: 3 }))).rejects.toMatchObject(
        expired,
      );
      await expect(resolve(cursors.encode(accountId, { kind: 'commit', eventId: ids[0] ?? '' }))).rejects.toMatchObject(
        expired,
      );
      expect(await resolve(earliestCursor)).toBe(40 - kept.length);
      expect(await resolve(cursors.encode(accountId, { kind: 'commit', eventId: ids.at(-1) ?? '' }))).toBe(40);
    });

    it('keeps the partition of an event that is not stamped yet, and all behind it', async () => {
      const first = await write();
      await log.advanceClock(10 * DAY_MS);
      await pruneNow();
      expect(dropped().filter((name) => name.startsWith('event_'))).toEqual([dayBefore('event')]);
      await stampAll(log.database);
      expect((await wholeLog(log.database, accountId)).map(({ id }) => id)).toEqual([first]);
    });

    itIfLong(
      'keeps the partition of an event that was stamped days later for as long as its place in the log',
      async () => {
        await write();
        await log.advanceClock(5 * DAY_MS);
        await stampAll(log.database);
        await log.advanceClock(5 * DAY_MS);
        await pruneNow();
        expect(await positions()).toEqual([1]);
        await log.advanceClock(5 * DAY_MS);
        await pruneNow();
        expect(await positions()).toEqual([]);
        expect([await readEarliest(log.database.db, accountId), await readHead(log.database.db, accountId)]).toEqual([
          2, 1,
        ]);
        await write();
        await stampAll(log.database);
        expect(await positions()).toEqual([2]);
      },
    );

    it('calls an event unknown whose log row went before its own partition', async () => {
      const [old] = [await write()];
      await stampAll(log.database);
      const late = await write(); // of the same day, stamped on the next: it holds the day's events
      await log.advanceClock(DAY_MS);
      await stampAll(log.database);
      await log.advanceClock(7 * DAY_MS);
      await pruneNow();
      expect(await positions()).toEqual([2]);
      expect(await readStamp(log.database.db, accountId, late)).toEqual({ state: 'stamped', position: 2 });
      expect(await readStamp(log.database.db, accountId, old)).toEqual({ state: 'unknown' });
      const cursor = cursors.encode(accountId, { kind: 'commit', eventId: old });
      await expect(
        resolveCursor({ database: log.database, cursors, clock: systemClock }, accountId, cursor),
      ).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' });
    });

    itIfLong('leaves no gap where days had no partition of their own', async () => {
      await log.advanceClock(20 * DAY_MS); // nobody made partitions for three weeks
      await liveDays(2, { isPruned: false });
      for (let day = 0; day < 8; day++) {
        await liveDays(1);
        const kept = await positions();
        expect(kept).toEqual(kept.map((_, at) => (kept[0] ?? 0) + at));
      }
      expect((await positions()).length).toBeLessThanOrEqual(16);
      const { rows } = await sql<{ logged: number; events: number }>`
      select (select count(*) from fanfare.log_default) as logged, (select count(*) from fanfare.event_default) as events
    `.execute(log.database.db);
      await liveDays(8);
      const after = await sql<{ logged: number; events: number }>`
      select (select count(*) from fanfare.log_default) as logged, (select count(*) from fanfare.event_default) as events
    `.execute(log.database.db);
      expect(rows[0]?.logged).toBeGreaterThanOrEqual(0);
      expect(after.rows).toEqual([{ logged: 0, events: 0 }]);
    });

    it('forgets idempotency keys after 24 hours', async () => {
      const call = { accountId, key: 'k', field: 'noteWrite', argumentsHash: new Uint8Array([1]) };
      const claim = () =>
        log.transact(authorOf(accountId), async (tx) => {
          const outcome = await claimKey(tx.db, call);
          if (outcome === undefined) await rememberOutcome(tx.db, call, { id: 'note_1' });
          return outcome;
        });
      expect((await claim()).result).toBeUndefined();
      expect((await claim()).result).toEqual({ id: 'note_1' });
      await log.advanceClock(DAY_MS - 60_000);
      await pruneNow();
      expect((await claim()).result).toEqual({ id: 'note_1' });
      await log.advanceClock(120_000);
      await pruneNow();
      expect(observed.map(({ forgotten_calls }) => forgotten_calls)).toEqual([0, 1]);
      expect((await claim()).result).toBeUndefined();
    });

    const dayBefore = (parent: string) => {
      const day = new Date(Date.now() - DAY_MS).toISOString().slice(0, 10).replaceAll('-', '');
      return `${parent}_${day}`;
    };
  });
}
