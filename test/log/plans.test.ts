import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineTables } from '../../src/database/tables.ts';
import {
  readEventPage,
  readEvents,
  readShard,
  readShardOf,
  readStamp,
  readTimesBehind,
} from '../../src/outbox/read.ts';
import { type LogDatabase, openLog } from '../support/log-database.ts';
import { written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';

// A day's partition is new each day: what the planner believes of it is nothing, or what held while it was empty.

const EVENTS = 20_000;
const BATCH = 500;
const SUBJECTS = 50;
/** By the index and in the table, each of the log and of the events, and a few for where to begin. */
const FAIR = { perRow: 4, once: 20 };
/** Of a bad plan: half of the account's events, all that lie behind. */
const FAR_TOO_MANY = EVENTS / 2;

type Db = Kysely<EngineTables>;

interface Bed {
  readonly log: LogDatabase;
  readonly accountId: string;
  /** Runs a read and explains the one statement that it sent. */
  explain(read: (db: Db) => Promise<unknown>): Promise<{ readonly rows: number; readonly touched: number }>;
  close(): Promise<void>;
}

describe.each([
  ['has no statistics', async () => {}],
  ['has those of when it was empty', async (db: Db) => void (await sql`analyze`.execute(db))],
] as const)('a log that %s', (_state, prepare) => {
  let bed: Bed;
  beforeAll(async () => {
    bed = await openBed(prepare);
  }, 60_000);
  afterAll(() => bed.close());

  const request = () => ({ accountId: bed.accountId, filters: [], after: EVENTS / 2, limit: 100 });

  it.each([
    ['events from a position on', (db: Db) => readEvents(db, request()), 100],
    [
      'events before a position',
      (db: Db) => readEvents(db, { ...request(), after: 0, before: 15_000, from: 'newest' }),
      100,
    ],
    ['the newest events', (db: Db) => readEvents(db, { ...request(), after: 0, from: 'newest' }), 100],
    ['a page', (db: Db) => readEventPage(db, { ...request(), limit: 500, maxBytes: 1_000_000 }), 500],
    [
      'a shard',
      async (db: Db) => readShard(db, await readShardOf(bed.log.database.db, bed.accountId), EVENTS / 2, 100),
      100,
    ],
    ['what became of one', async (db: Db) => readStamp(db, bed.accountId, await idAt(bed, 15_000)), 1],
    ['times', (db: Db) => readTimesBehind(db, bed.accountId, places()), 100],
  ] as const)('gives %s without a look at all the others', async (_what, read, rows) => {
    const plan = await bed.explain(read);
    expect(plan.rows).toBe(rows);
    expect(plan.touched).toBeLessThanOrEqual(FAIR.perRow * rows + FAIR.once);
  });

  it('looks through ten times as many as it gives, at most, for events of a type that many are of', async () => {
    const filters = [{ types: ['note.written'] }];
    for (const read of [
      (db: Db) => readEvents(db, { ...request(), filters }),
      (db: Db) => readEventPage(db, { ...request(), filters, before: EVENTS + 1, maxBytes: 1_000_000 }),
    ]) {
      const plan = await bed.explain(read);
      expect(plan.rows).toBe(100);
      expect(plan.touched).toBeLessThanOrEqual(FAIR.perRow * 1_000 + FAIR.once);
    }
  });

  it.each([
    ['a join by which the planner may begin with the subjects', (db: Db) => naiveEvents(db, bed.accountId)],
    ['a join with the times', (db: Db) => naiveTimes(db, bed.accountId)],
  ] as const)('is read from end to end by %s (negative control)', async (_what, read) => {
    expect((await bed.explain(read)).touched).toBeGreaterThan(FAR_TOO_MANY);
  });
});

async function idAt({ log, accountId }: Bed, position: number): Promise<string> {
  const [event] = await readEvents(log.database.db, { accountId, filters: [], after: position - 1, limit: 1 });
  return event?.id ?? '';
}

function places(): number[] {
  return Array.from({ length: 100 }, (_, at) => (at * EVENTS) / 100);
}

function naiveJoin(db: Db, accountId: string) {
  return db
    .selectFrom('fanfare.log as l')
    .innerJoin('fanfare.event as e', 'e.seq', 'l.seq')
    .where('l.account_id', '=', accountId)
    .where('e.account_id', '=', accountId);
}

function naiveEvents(db: Db, accountId: string): Promise<unknown> {
  const behind = naiveJoin(db, accountId).where('l.position', '>', EVENTS / 2);
  return behind.select(['l.position', 'e.payload']).orderBy('l.position').limit(100).execute();
}

function naiveTimes(db: Db, accountId: string): Promise<unknown> {
  const wanted = places().map((place) => place + 1);
  return naiveJoin(db, accountId).where('l.position', 'in', wanted).select(['l.position', 'e.occurred_at']).execute();
}

async function openBed(prepare: (db: Db) => Promise<void>): Promise<Bed> {
  const log = await openLog('postgres');
  const { db } = log.database;
  await stopAutovacuum(db);
  await prepare(db);
  const accountId = await log.addAccount();
  await fill(log, accountId);
  const pool = new pg.Pool({ connectionString: log.url, max: 1 });
  const sent: { readonly sql: string; readonly parameters: readonly unknown[] }[] = [];
  const watched: Db = new Kysely({ dialect: new PostgresDialect({ pool }), log: ({ query }) => void sent.push(query) });
  return {
    log,
    accountId,
    async explain(read) {
      sent.length = 0;
      await read(watched);
      expect(sent).toHaveLength(1);
      const [{ sql: text, parameters } = { sql: '', parameters: [] }] = sent;
      const { rows } = await pool.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
        `explain (analyze, timing off, format json) ${text}`,
        [...parameters],
      );
      const [{ Plan: plan } = { Plan: undefined }] = rows[0]?.['QUERY PLAN'] ?? [];
      if (plan === undefined) throw new Error('expected a plan, found none');
      return { rows: plan['Actual Rows'], touched: touchedBy(plan) };
    },
    async close() {
      await watched.destroy();
      await log.close();
    },
  };
}

async function stopAutovacuum(db: Db): Promise<void> {
  const { rows } = await sql<{ name: string }>`
    select inhrelid::regclass::text as name from pg_inherits where inhparent in ('fanfare.event'::regclass, 'fanfare.log'::regclass)
  `.execute(db);
  for (const { name } of rows) await sql`alter table ${sql.raw(name)} set (autovacuum_enabled = off)`.execute(db);
}

async function fill({ database }: LogDatabase, accountId: string): Promise<void> {
  for (let count = 0; count < EVENTS; count += BATCH) {
    await sql`
      select count(fanfare.emit(${accountId}, 'note.written', 'note_' || n % ${SUBJECTS}::int, ${JSON.stringify(written('text'))}::jsonb))
      from generate_series(1, ${BATCH}::int) n
    `.execute(database.db);
  }
  await stampAll(database, { leaseMs: 60_000 });
}

interface PlanNode {
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Index Recheck'?: number;
  readonly Plans?: readonly PlanNode[];
}

/** Rows of tables and entries of indexes that a plan looked at. */
function touchedBy(node: PlanNode): number {
  const isScan = node['Relation Name'] !== undefined || node['Index Name'] !== undefined;
  const given =
    node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0);
  const below = (node.Plans ?? []).reduce((sum, plan) => sum + touchedBy(plan), 0);
  return below + (isScan ? given * node['Actual Loops'] : 0);
}
