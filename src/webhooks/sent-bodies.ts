import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';

const BATCH = 1_000;

/**
 * Deletes bodies that were sent: those whose deliveries have all succeeded, the last of them at least a day ago. Bodies of open,
 * failed or cancelled deliveries, and of pings, which hold nothing of a user's, stay until retention. In batches by key; a body that stays is
 * looked at again each time: 20 s for a million of them on two busy cores, once an hour (2026-11-22). Safe in several processes at once.
 *
 * A delivery that takes such a body up in the same moment is rendered anew.
 * @returns how many
 */
export async function deleteSentBodies(database: Database): Promise<number> {
  let total = 0;
  for (let after: Place = { seq: 0, key: '~' }; ; ) {
    const last = await deleteBatch(database, after);
    if (last === undefined) return total;
    total += last.deleted;
    after = last;
  }
}

function deleteBatch(database: Database, after: Place): Promise<Batch | undefined> {
  return database.transaction(async (tx) => {
    // of a day's partition the planner knows nothing, or what held while it was empty: it would read all events for a thousand bodies
    await sql`select set_config(name, 'off', true)
      from unnest(array['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']) as name`.execute(tx);
    const { rows } = await sql<Batch>`
      with page as materialized (
        select b.seq, b.key, b.occurred_at from fanfare.body b
        where b.occurred_at < fanfare.now() - interval '24 hours' and (b.seq, b.key) > (${after.seq}::bigint, ${after.key}::text)
        order by b.seq, b.key limit ${BATCH}::int
      ), sent as (
        select p.* from page p join fanfare.event e on e.seq = p.seq and e.occurred_at = p.occurred_at
        where not exists (
            -- one that is not rendered yet may come to want it
            select from fanfare.delivery d where d.event_id = e.id and (d.body_key is null or d.body_key = p.key))
          -- null without any, which is not "all"
          and (select bool_and(d.status = 'SUCCEEDED' and d.finished_at < fanfare.now() - interval '24 hours')
               from fanfare.delivery_done d
               where d.event_id = e.id and d.body_key = p.key
                 -- as a value that is known beforehand: else the partitions of days to come are looked into for each body
                 and d.born_at between p.occurred_at and (select fanfare.now() + interval '1 day'))
      ), gone as (
        delete from fanfare.body b using sent s
        where b.seq = s.seq and b.key = s.key and b.occurred_at = s.occurred_at returning 1
      )
      select (select count(*) from gone)::int as deleted, p.seq, p.key from page p order by p.seq desc, p.key desc limit 1
    `.execute(tx);
    return rows[0];
  });
}

interface Place {
  readonly seq: number;
  readonly key: string;
}

interface Batch extends Place {
  readonly deleted: number;
}
