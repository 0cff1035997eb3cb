import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEventPage, readEvents, readTimesBehind } from '../../src/outbox/read.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { noteEdited, noteWritten, written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';

const EVENTS = 130;
/** Positions of the one rare type. */
const RARE = [1, 65, 130];
/** The first position that retention has left. */
const EARLIEST = 61;

describe.each(BACKENDS)('a log that retention has cut, on %s', (kind) => {
  let log: LogDatabase;
  let accountId: string;
  beforeAll(async () => {
    log = await openLog(kind);
    accountId = await log.addAccount();
    await log.transact(authorOf(accountId), async (tx) => {
      for (let position = 1; position <= EVENTS; position++) {
        if (RARE.includes(position))
          await tx.emit(noteEdited, { subjectId: 'note_1', payload: { text: 'x' }, changed: ['text'] });
        else await tx.emit(noteWritten, { subjectId: 'note_1', payload: written('x') });
      }
    });
    await stampAll(log.database);
    await sql`delete from fanfare.log where account_id = ${accountId} and position < ${EARLIEST}`.execute(
      log.database.db,
    );
  });
  afterAll(() => log.close());

  it.each([
    ['from before its start', { after: 0, limit: 3 }, [61, 62, 63]],
    ['from inside', { after: 99, limit: 2 }, [100, 101]],
    ['up to its end', { after: 128, limit: 3 }, [129, 130]],
    ['back from its end', { after: 0, limit: 3, from: 'newest' }, [128, 129, 130]],
    ['back from behind its end', { after: 0, before: 1_000, limit: 2, from: 'newest' }, [129, 130]],
    ['back to its start', { after: 0, before: 63, limit: 10, from: 'newest' }, [61, 62]],
    ['before its start', { after: 0, before: 50, limit: 10 }, []],
  ] as const)('is read %s', async (_where, request, positions) => {
    const events = await readEvents(log.database.db, { accountId, filters: [], ...request });
    expect(events.map(({ position }) => position)).toEqual(positions);
  });

  it.each([
    [{ after: 0, limit: 1 }, [65]],
    [{ after: 0, limit: 3 }, [65, 130]],
    [{ after: 65, limit: 1 }, [130]],
    [{ after: 65, limit: 3, before: 130 }, []],
  ])('gives rare events, however far they lie: %j', async (part, positions) => {
    const request = { accountId, filters: [{ types: ['note.edited'] }], ...part };
    const { db } = log.database;
    expect((await readEvents(db, request)).map(({ position }) => position)).toEqual(positions);
    const page = await readEventPage(db, { before: EVENTS + 1, maxBytes: 1_000_000, ...request });
    expect(page.events.map(({ position }) => position)).toEqual(positions);
    expect(page.isLast).toBe(positions.length < part.limit);
  });

  it('tells when the first event behind a position was captured', async () => {
    const { db } = log.database;
    const events = await readEvents(db, { accountId, filters: [], after: 0, limit: EVENTS });
    const timeOf = (at: number) => events.find(({ position }) => position === at)?.occurredAt;
    const times = await readTimesBehind(db, accountId, [0, 60, 64, 129, 130]);
    expect([...times].toSorted(([a], [b]) => a - b)).toEqual([
      [0, timeOf(61)],
      [60, timeOf(61)],
      [64, timeOf(65)],
      [129, timeOf(130)],
    ]);
    expect(await readTimesBehind(db, await log.addAccount(), [0])).toEqual(new Map());
  });
});
