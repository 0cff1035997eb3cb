import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import { oldestDay, oldPartitions, unlessLocked } from '../database/partitions.ts';
import type { Observe } from '../runtime/observe.ts';
import { deleteSentBodies } from './sent-bodies.ts';

export interface PruneDeliveriesOptions {
  /** Whole days that a delivery and its attempts can be read after its birth. At least 7. */
  readonly retentionDays: number;
}

/** Retries of what was rendered on the last day of retention still find their body: the schedule is 76 h long. */
const BODY_EXTRA_DAYS = 4;
const BATCH = 1_000;

/**
 * Ends open deliveries that were born before retention, such as a paused webhook's, whose events are going; deletes bodies a day after
 * all that were sent them have succeeded; then drops old partitions of records, attempts and bodies, and forgets which of their deliveries had
 * events, and replays that ended before retention. The records of a day outlive its log, which `prune` of the outbox drops and which makes new
 * partitions: a replay of what is missing would take what has arrived for missing. Safe in several processes at once; what is
 * locked is left for the next call.
 */
export async function pruneDeliveries(
  database: Database,
  { retentionDays }: PruneDeliveriesOptions,
  observe: Observe,
): Promise<void> {
  const expired = await expireOpen(database, retentionDays);
  const bodies = await deleteSentBodies(database);
  const dropped = [
    ...(await dropOldRecords(database, retentionDays)),
    ...(await dropOld(database, 'attempt', retentionDays)),
    ...(await dropOld(database, 'body', retentionDays + BODY_EXTRA_DAYS)),
  ];
  const forgotten = await forgetSubjects(database, retentionDays + BODY_EXTRA_DAYS);
  const replays = await forgetReplays(database, retentionDays);
  observe({ name: 'prune.deliveries_done', dropped, expired, bodies, forgotten, replays });
}

async function forgetReplays({ db }: Database, retentionDays: number): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom('fanfare.replay')
    .where('finished_at', '<', sql<Date>`fanfare.now() - ${retentionDays}::int * interval '1 day'`)
    .executeTakeFirst();
  return Number(numDeletedRows);
}

/** In batches, so that no statement holds the log's readers for long. */
async function expireOpen(database: Database, days: number): Promise<number> {
  const firstKept = await firstKeptId(database, days);
  for (let total = 0; ; ) {
    const count = await expireBatch(database, firstKept);
    total += count;
    if (count < BATCH) return total;
  }
}

/**
 * From the accounts by the key, the one index in whose order nothing has to be sorted: by another all that is open was read for each
 * thousand, and 20,000 beside 150,000 took 36 s.
 */
function expireBatch(database: Database, firstKept: string): Promise<number> {
  return database.transaction(async (tx) => {
    await sql`select set_config(name, 'off', true)
      from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_sort', 'enable_hashjoin', 'enable_mergejoin', 'jit']) as name`.execute(
      tx,
    );
    const { rows } = await sql`
      with old as materialized (
        select o.account_id, o.id from fanfare.account a
        cross join lateral (
          select d.account_id, d.id from fanfare.delivery d
          where d.account_id = a.id and d.id >= 'dlv_' and d.id < ${firstKept}
          order by d.id limit ${BATCH}::int for update of d skip locked
        ) o limit ${BATCH}::int
      )
      delete from fanfare.delivery d using old where d.account_id = old.account_id and d.id = old.id returning 1
    `.execute(tx);
    return rows.length;
  });
}

/** The versions of deliveries that were exhausted: what was born before has no further events. */
async function forgetSubjects(database: Database, days: number): Promise<number> {
  const firstKept = await firstKeptId(database, days);
  for (let total = 0; ; ) {
    const { rows } = await sql<{ id: string }>`
      with old as (
        select s.account_id, s.id from fanfare.account a
        cross join lateral (
          select s.account_id, s.id from fanfare.subject s
          where s.account_id = a.id and s.type = 'Delivery' and s.id >= 'dlv_' and s.id < ${firstKept}
          limit ${BATCH}::int
        ) s limit ${BATCH}::int
      )
      delete from fanfare.subject s using old
      where s.account_id = old.account_id and s.type = 'Delivery' and s.id = old.id returning s.id
    `.execute(database.db);
    total += rows.length;
    if (rows.length < BATCH) return total;
  }
}

/** An id begins with the moment of its delivery's birth, so that each account's old ones are a range of the key. */
async function firstKeptId(database: Database, days: number): Promise<string> {
  const { rows } = await sql<{ id: string }>`
    select left(fanfare.new_id('dlv', fanfare.now() - ${days}::int * interval '1 day'), ${'dlv_'.length + 12}::int) as id
  `.execute(database.db);
  return rows[0]?.id ?? '';
}

/** Those that the log has left behind: as long as an event can be replayed, it is known what has arrived. */
async function dropOldRecords(database: Database, days: number): Promise<string[]> {
  const logged = await oldestDay(database, 'log');
  return dropOld(database, 'delivery_done', days, (name) => logged === undefined || name.slice(-8) < logged);
}

async function dropOld(
  database: Database,
  parent: string,
  days: number,
  mayGo: (name: string) => boolean = () => true,
): Promise<string[]> {
  const dropped: string[] = [];
  for (const name of (await oldPartitions(database, parent, days)).filter(mayGo)) {
    const isDropped = await unlessLocked(database, async (tx) => {
      await sql`drop table if exists fanfare.${sql.id(name)}`.execute(tx);
      return true;
    });
    if (isDropped) dropped.push(name);
  }
  // where rows of days without a partition went
  await sql`
    delete from ${sql.id('fanfare', `${parent}_default`)}
    where ${sql.id(parent === 'body' ? 'occurred_at' : 'born_at')} < fanfare.now() - ${days}::int * interval '1 day'
  `.execute(database.db);
  return dropped;
}
