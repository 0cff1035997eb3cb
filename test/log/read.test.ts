import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineTables } from '../../src/database/tables.ts';
import {
  readEarliest,
  readEvents,
  readEventsById,
  readHead,
  readShard,
  readShardHeads,
  readStamp,
} from '../../src/outbox/read.ts';
import { newId } from '../../src/runtime/id.ts';
import { BACKENDS, type LogDatabase, openLog, wholeLog } from '../support/log-database.ts';
import { written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';
import { withClient } from '../support/postgres-client.ts';

describe.each(BACKENDS)('reading the log on %s', (kind) => {
  let log: LogDatabase;
  let accountId: string;
  const ids: string[] = [];
  beforeAll(async () => {
    log = await openLog(kind);
    accountId = await log.addAccount();
    for (let n = 1; n <= 10; n++) {
      ids.push((await log.emit(accountId, 'note.written', `note_${n % 2}`, written(`${n}`, [`user_${n % 3}`]))) ?? '');
    }
    await stampAll(log.database);
  });
  afterAll(() => log.close());

  const read = async (request: Partial<Parameters<typeof readEvents>[1]>) => {
    const events = await readEvents(log.database.db, { accountId, filters: [], after: 0, limit: 100, ...request });
    return events.map(({ position }) => position);
  };

  it.each([
    ['forwards', { after: 3, limit: 3 }, [4, 5, 6]],
    ['to the end', { after: 8, limit: 3 }, [9, 10]],
    ['behind the end', { after: 10 }, []],
    ['before a position', { before: 4 }, [1, 2, 3]],
    ['before the first', { before: 1 }, []],
    ['between two', { after: 2, before: 5 }, [3, 4]],
    ['backwards from the end', { from: 'newest', limit: 3 }, [8, 9, 10]],
    ['backwards before a position', { from: 'newest', before: 6, limit: 2 }, [4, 5]],
    ['backwards down to a position', { from: 'newest', after: 8, limit: 5 }, [9, 10]],
    ['none', { limit: 0 }, []],
  ] as const)('goes %s', async (_where, request, positions) => {
    expect(await read(request)).toEqual(positions);
  });

  it('chooses by what events are related to, through a list', async () => {
    expect(await read({ filters: [{ related: ['user_0'] }] })).toEqual([3, 6, 9]);
    expect(
      await read({ filters: [{ related: ['user_0'] }, { subjects: ['note_0'] }], from: 'newest', limit: 1 }),
    ).toEqual([6]);
  });

  it('knows head and earliest, of an account without events too', async () => {
    const { db } = log.database;
    expect([await readHead(db, accountId), await readEarliest(db, accountId)]).toEqual([10, 1]);
    const empty = await log.addAccount();
    expect([await readHead(db, empty), await readEarliest(db, empty)]).toEqual([0, 1]);
  });

  it('gives a shard in the order of its offsets, up to its head', async () => {
    const { db } = log.database;
    const [first] = (await readShardHeads(db)).entries().filter(([, head]) => head > 0);
    const [shard, head] = first ?? [0, 0];
    const records = await readShard(db, shard, head - 3, 100);
    expect(records.map(({ shardOffset }) => shardOffset)).toEqual([head - 2, head - 1, head]);
    expect(records.map(({ id }) => id)).toEqual(ids.slice(-3));
  });

  it('gives events by their ids and leaves out what is unknown or foreign', async () => {
    const { db } = log.database;
    const [one = '', two = ''] = ids;
    const wanted = [two, one, newId('evt'), 'garbage', `evt_${'f'.repeat(32)}`];
    const events = await readEventsById(db, accountId, wanted);
    expect(events.map(({ id }) => id).toSorted()).toEqual([one, two].toSorted());
    expect(await readEventsById(db, await log.addAccount(), [one])).toEqual([]);
    expect(await readEventsById(db, accountId, [])).toEqual([]);
  });

  it('tells what became of an event', async () => {
    const { db } = log.database;
    const pending = (await log.emit(accountId, 'note.written', 'note_1', written('late'))) ?? '';
    expect(await readStamp(db, accountId, ids[4] ?? '')).toEqual({ state: 'stamped', position: 5 });
    expect(await readStamp(db, accountId, pending)).toEqual({ state: 'pending' });
    expect(await readStamp(db, accountId, newId('evt'))).toEqual({ state: 'unknown' });
    expect(await readStamp(db, 'acc_default', ids[4] ?? '')).toEqual({ state: 'unknown' });
    const bad = (await log.emit(accountId, 'note.written', 'note_1', {})) ?? '';
    const after = (await log.emit(accountId, 'note.written', 'note_1', written('after'))) ?? '';
    await stampAll(log.database);
    expect(await readStamp(db, accountId, bad)).toEqual({ state: 'parked', position: 11 });
    expect(await readStamp(db, accountId, after)).toEqual({ state: 'stamped', position: 12 });
    expect(await wholeLog(log.database, accountId)).toHaveLength(12);
  });
});

describe('reading events by their ids (Postgres)', () => {
  it('looks only into the partitions of their days', async () => {
    const log = await openLog('postgres');
    const accountId = await log.addAccount();
    const id = (await log.emit(accountId, 'note.written', 'note_1', written(''))) ?? '';
    await stampAll(log.database);
    const statements: { sql: string; parameters: readonly unknown[] }[] = [];
    const dialect = new PostgresDialect({ pool: new pg.Pool({ connectionString: log.url, max: 1 }) });
    const watched = new Kysely<EngineTables>({ dialect, log: ({ query }) => void statements.push(query) });
    await readEventsById(watched, accountId, [id]);
    await watched.destroy();

    const plan = await withClient(log.url, async (client) => {
      const [{ sql, parameters } = { sql: '', parameters: [] }] = statements;
      const { rows } = await client.query<Record<string, string>>(`explain ${sql}`, [...parameters]);
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    });
    const touched = new Set(plan.match(/event_(default|\d{8})(?= )/g));
    expect(plan).toMatch(/event_\d{8}/);
    expect(touched.size).toBeLessThanOrEqual(2);
    await log.close();
  });
});
