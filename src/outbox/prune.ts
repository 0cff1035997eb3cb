import { sql, type Transaction } from 'kysely';
import type { Database } from '../database/connect.ts';
import { oldPartitions, unlessLocked } from '../database/partitions.ts';
import type { EngineTables } from '../database/tables.ts';
import type { Observe } from '../runtime/observe.ts';

export interface PruneOptions {
  /** Whole days that an event can be read after it was stamped. At least 7. */
  readonly retentionDays: number;
}

/**
 * Makes partitions for the next two weeks, drops those that are past retention and forgets idempotency keys after a
 * day. Safe in several processes at once; what is locked is left for the next call.
 *
 * A log partition goes when its whole day is past retention. An event partition goes when no event in it can still be
 * reached: its last seq is below the first in the log and in the outbox. Rows of the default partitions, where those of
 * days without a partition went, are deleted by the same rules.
 */
export async function prune(database: Database, options: PruneOptions, observe: Observe): Promise<void> {
  const made = await makePartitions(database);
  const dropped = [...(await dropLogPartitions(database, options)), ...(await dropEventPartitions(database, options))];
  const forgotten = await database.db
    .deleteFrom('fanfare.idempotency')
    .where('created_at', '<', sql<Date>`fanfare.now() - interval '24 hours'`)
    .executeTakeFirst();
  observe({ name: 'prune.done', made, dropped, forgotten_calls: Number(forgotten.numDeletedRows) });
}

/**
 * Leaves out a table that is locked: with two weeks in stock the next call will do. Each table has a transaction of its own:
 * with locks on two of them it would wait for a reader that waits for it.
 */
async function makePartitions(database: Database): Promise<number> {
  const { rows: tables } = await sql<{ name: string }>`
    select c.relname as name from pg_partitioned_table p join pg_class c on c.oid = p.partrelid
    where c.relnamespace = 'fanfare'::regnamespace and c.relkind = 'p' order by c.relname`.execute(database.db);
  let made = 0;
  for (const { name } of tables) {
    const count = await unlessLocked(database, async (tx) => {
      const { rows } = await sql<{ made: number }>`
        select fanfare.make_partitions((fanfare.now() at time zone 'UTC')::date + 14, ${name}) as made`.execute(tx);
      return rows[0]?.made ?? 0;
    });
    made += count ?? 0;
  }
  return made;
}

async function dropLogPartitions(database: Database, { retentionDays }: PruneOptions): Promise<string[]> {
  const names = await oldPartitions(database, 'log', retentionDays);
  const dropped = await dropEach(database, names, {
    mayGo: async () => true,
    // in step with the days, so that what is left of an account begins at one place
    before: (tx, name) =>
      sql`
      delete from fanfare.log_default
      where stamped_at < (to_date(${name.slice(-8)}, 'YYYYMMDD') + 1)::timestamp at time zone 'UTC'`.execute(tx),
  });
  if (dropped.length === names.length) {
    await sql`delete from fanfare.log_default where stamped_at < ${startOfRetention(retentionDays)}`.execute(
      database.db,
    );
  }
  return dropped;
}

async function dropEventPartitions(database: Database, { retentionDays }: PruneOptions): Promise<string[]> {
  const names = await oldPartitions(database, 'event', retentionDays);
  await sql`
    delete from fanfare.event_default
    where occurred_at < ${startOfRetention(retentionDays)} and seq < ${firstReachableSeq}`.execute(database.db);
  return dropEach(database, names, {
    mayGo: async (name) => {
      const { rows } = await sql<{ unreachable: boolean }>`
        select coalesce((select max(seq) from ${sql.id('fanfare', name)}), 0) < ${firstReachableSeq} as unreachable
      `.execute(database.db);
      return rows[0]?.unreachable ?? false;
    },
  });
}

const firstReachableSeq = sql<number>`least(
  coalesce((select min(seq) from fanfare.log), 9223372036854775807),
  coalesce((select min(seq) from fanfare.outbox), 9223372036854775807))`;

function startOfRetention(retentionDays: number) {
  return sql<Date>`((fanfare.now() at time zone 'UTC')::date - ${retentionDays}::int)::timestamp at time zone 'UTC'`;
}

interface Dropping {
  readonly mayGo: (name: string) => Promise<boolean>;
  /** In the transaction that drops. */
  readonly before?: (tx: Transaction<EngineTables>, name: string) => Promise<unknown>;
}

/** Drops until one must stay or is locked. */
async function dropEach(database: Database, names: readonly string[], { mayGo, before }: Dropping): Promise<string[]> {
  const dropped: string[] = [];
  for (const name of names) {
    if (!(await mayGo(name))) break;
    const isDropped = await unlessLocked(database, async (tx) => {
      await before?.(tx, name);
      await sql`drop table fanfare.${sql.id(name)}`.execute(tx);
      return true;
    });
    if (!isDropped) break;
    dropped.push(name);
  }
  return dropped;
}
