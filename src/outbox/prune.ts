import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
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
 * reached: its last seq is below the first in the log and in the outbox.
 */
export async function prune(database: Database, options: PruneOptions, observe: Observe): Promise<void> {
  await sql`select fanfare.make_partitions((fanfare.now() at time zone 'UTC')::date + 14)`.execute(database.db);
  const dropped = [...(await dropLogPartitions(database, options)), ...(await dropEventPartitions(database, options))];
  const forgotten = await database.db
    .deleteFrom('fanfare.idempotency')
    .where('created_at', '<', sql<Date>`fanfare.now() - interval '24 hours'`)
    .executeTakeFirst();
  observe({ name: 'prune.done', dropped, forgotten_keys: Number(forgotten.numDeletedRows) });
}

async function dropLogPartitions(database: Database, { retentionDays }: PruneOptions): Promise<string[]> {
  const names = await oldPartitions(database, 'log', retentionDays);
  return dropEach(database, names, async () => true);
}

async function dropEventPartitions(database: Database, { retentionDays }: PruneOptions): Promise<string[]> {
  const names = await oldPartitions(database, 'event', retentionDays);
  return dropEach(database, names, async (name) => {
    const { rows } = await sql<{ unreachable: boolean }>`
      select coalesce((select max(seq) from ${sql.id('fanfare', name)}), 0) < least(
        coalesce((select min(seq) from fanfare.log), 9223372036854775807),
        coalesce((select min(seq) from fanfare.outbox), 9223372036854775807)) as unreachable
    `.execute(database.db);
    return rows[0]?.unreachable ?? false;
  });
}

/** Partitions named by a day that ended before retention began, oldest first. */
async function oldPartitions(database: Database, parent: 'log' | 'event', retentionDays: number): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ${`fanfare.${parent}`}::regclass and c.relname ~ '_[0-9]{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (fanfare.now() at time zone 'UTC')::date - ${retentionDays}::int
    order by c.relname
  `.execute(database.db);
  return rows.map(({ name }) => name);
}

/** Drops until one must stay or is locked. */
async function dropEach(
  database: Database,
  names: readonly string[],
  mayGo: (name: string) => Promise<boolean>,
): Promise<string[]> {
  const dropped: string[] = [];
  for (const name of names) {
    if (!(await mayGo(name)) || !(await dropUnlocked(database, name))) break;
    dropped.push(name);
  }
  return dropped;
}

/** Waits at most 2 s for the lock: a drop that waits longer would hold up every reader behind it. */
async function dropUnlocked(database: Database, name: string): Promise<boolean> {
  return database
    .transaction(async (tx) => {
      await sql`set local lock_timeout = '2s'`.execute(tx);
      await sql`drop table fanfare.${sql.id(name)}`.execute(tx);
      return true;
    })
    .catch((error: unknown) => {
      const isLocked = error instanceof Error && 'code' in error && error.code === '55P03';
      if (isLocked) return false;
      throw error;
    });
}
