import { sql } from 'kysely';
import type { Database } from '../../src/database/connect.ts';

/** Counts the rows of `fanfare.delivery` that work reads, which is done in one transaction: what a join costs that no clock tells on a busy machine. */
export async function countReads(database: Database, work: (within: Database) => Promise<unknown>): Promise<number> {
  return database.transaction(async (tx) => {
    await work({ ...database, db: tx, transaction: (inner) => inner(tx) });
    const { rows } = await sql<{ reads: number }>`
      select (pg_stat_get_xact_tuples_returned(t.oid) + pg_stat_get_xact_tuples_fetched(t.oid))::int as reads
      from (select 'fanfare.delivery'::regclass as oid) t
    `.execute(tx);
    return rows[0]?.reads ?? 0;
  });
}
