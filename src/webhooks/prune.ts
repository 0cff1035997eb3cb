import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import { oldPartitions, unlessLocked } from '../database/partitions.ts';
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
 * all that were sent them have succeeded; then drops old partitions of records, attempts and bodies. New partitions are made by `prune` of the outbox. Safe in several
 * processes at once; what is locked is left for the next call.
 */
export async function pruneDeliveries(
  database: Database,
  { retentionDays }: PruneDeliveriesOptions,
  observe: Observe,
): Promise<void> {
  const expired = await expireOpen(database, retentionDays);
  const bodies = await deleteSentBodies(database);
  const dropped = [
    ...(await dropOld(database, 'delivery_done', retentionDays)),
    ...(await dropOld(database, 'attempt', retentionDays)),
    ...(await dropOld(database, 'body', retentionDays + BODY_EXTRA_DAYS)),
  ];
  observe({ name: 'prune.deliveries_done', dropped, expired, bodies });
}

/** In batches, so that no statement holds the log's readers for long. */
async function expireOpen(database: Database, retentionDays: number): Promise<number> {
  for (let total = 0; ; ) {
    const { rows } = await sql<{ id: string }>`
      with old as (
        select d.account_id, d.id from fanfare.delivery d
        where d.born_at < fanfare.now() - ${retentionDays}::int * interval '1 day'
        order by d.account_id, d.id limit ${BATCH}::int for update skip locked
      )
      delete from fanfare.delivery d using old where d.account_id = old.account_id and d.id = old.id returning d.id
    `.execute(database.db);
    total += rows.length;
    if (rows.length < BATCH) return total;
  }
}

async function dropOld(database: Database, parent: string, days: number): Promise<string[]> {
  const dropped: string[] = [];
  for (const name of await oldPartitions(database, parent, days)) {
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
