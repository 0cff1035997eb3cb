import { sql, type Transaction } from 'kysely';
import type { Database } from './connect.ts';
import { isLockTimeout } from './faults.ts';
import type { EngineTables } from './tables.ts';

/** Partitions of a table of `fanfare` named by a day (`…_20260131`, UTC) that ended at least `days` ago, oldest first. */
export async function oldPartitions(database: Database, parent: string, days: number): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ${`fanfare.${parent}`}::regclass and c.relname ~ '_[0-9]{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (fanfare.now() at time zone 'UTC')::date - ${days}::int
    order by c.relname
  `.execute(database.db);
  return rows.map(({ name }) => name);
}

/** The first day of which a table of `fanfare` has a partition, as `20260131`; undefined if it has none by day. */
export async function oldestDay({ db }: Pick<Database, 'db'>, parent: string): Promise<string | undefined> {
  const { rows } = await sql<{ day: string | null }>`
    select min(right(c.relname, 8)) as day from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ${`fanfare.${parent}`}::regclass and c.relname ~ '_[0-9]{8}$'
  `.execute(db);
  return rows[0]?.day ?? undefined;
}

/**
 * Runs `work` in a transaction that waits at most 2 s for a lock, then gives undefined: one that waits longer for a
 * partition would hold up every reader behind it.
 */
export async function unlessLocked<R>(
  database: Database,
  work: (tx: Transaction<EngineTables>) => Promise<R>,
): Promise<R | undefined> {
  return database
    .transaction(async (tx) => {
      await sql`set local lock_timeout = '2s'`.execute(tx);
      return work(tx);
    })
    .catch((error: unknown) => {
      if (isLockTimeout(error)) return undefined;
      throw error;
    });
}
