import { type Kysely, sql } from 'kysely';
import type { Database } from '../../src/database/connect.ts';
import type { EngineTables } from '../../src/database/tables.ts';

/**
 * Counts what work reads of a table with its partitions, rows and entries of indexes, which is done in one transaction: what a join costs
 * that no clock tells on a busy machine.
 */
export async function countReads(
  database: Database,
  work: (within: Database) => Promise<unknown>,
  table = 'fanfare.delivery',
): Promise<number> {
  return database.transaction(async (tx) => {
    // of the transactions before it what is not reported yet, up to a second
    const before = await readCount(tx, table);
    await work({ ...database, db: tx, transaction: (inner) => inner(tx) });
    return (await readCount(tx, table)) - before;
  });
}

async function readCount(db: Kysely<EngineTables>, table: string): Promise<number> {
  const { rows } = await sql<{ reads: number }>`
    with parts as (
      select ${table}::regclass as oid union all select i.inhrelid from pg_inherits i where i.inhparent = ${table}::regclass
    )
    select sum(pg_stat_get_xact_tuples_returned(t.oid) + pg_stat_get_xact_tuples_fetched(t.oid))::int as reads
    -- what is found by an index is counted there
    from (select p.oid from parts p union all select i.indexrelid from pg_index i join parts p on p.oid = i.indrelid) t
  `.execute(db);
  return rows[0]?.reads ?? 0;
}
