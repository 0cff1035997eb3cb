import type { Client } from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type LogDatabase, openLog } from '../support/log-database.ts';
import { written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';
import { withClient } from '../support/postgres-client.ts';

// What the planner believes of a table is what held while it was empty, as when an idle database was analyzed by hand.

const WAITING = 3_000;
const BATCH = 100;

let log: LogDatabase;
let accountId: string;
beforeAll(async () => {
  log = await openLog('postgres');
  accountId = await log.addAccount();
}, 60_000);
afterAll(() => log.close());

it('a batch is stamped without a look at all that waits behind it', async () => {
  await withClient(log.url, async (client) => {
    await client.query('analyze');
    await emit(client, WAITING);
    await client.query('begin');
    const stamped = await touchedBy(client, 'outbox.*', () => stamp(client));
    expect(stamped.rows).toBe(BATCH);
    // all of them once, by the look that the statement above takes
    expect(stamped.touched - WAITING).toBeLessThan(10 * BATCH);
    const naive = await touchedBy(client, 'outbox.*', () => deleteByKey(client));
    expect(naive.rows).toBe(BATCH);
    expect(naive.touched).toBeGreaterThan(WAITING / 2);
    await client.query('rollback');
  });
});

it('a consumer of one subject is lent its events without a look at all of them for each', async () => {
  await stampAll(log.database, { leaseMs: 60_000 });
  await withClient(log.url, async (client) => {
    await client.query(
      `insert into fanfare.consumer (account_id, id, name, subjects, epoch, leased_to, narrowing)
       select $1, 'cns_test', 'test', array['note_1'], i.epoch, 0, '[]' from fanfare.installation i`,
      [accountId],
    );
    await client.query('begin');
    const lent = await touchedBy(client, 'event\\_.*', () =>
      client.query("select * from fanfare.lease_events($1, 'cns_test', 10, '30 seconds', 1000, 10)", [accountId]),
    );
    expect(lent.touched).toBeLessThan(100);
    const naive = await touchedBy(client, 'event\\_.*', () => countByJoin(client));
    // of that subject, to find ten: joined in memory with each row of the log
    expect(naive.touched).toBe(WAITING / 2);
    await client.query('rollback');
  });
});

it('a batch is matched with webhooks without a look at the log for each of its events', async () => {
  await stampAll(log.database, { leaseMs: 60_000 });
  await withClient(log.url, async (client) => {
    await client.query(
      `insert into fanfare.webhook (id, account_id, url, description, metadata, event_types, variables, scopes, narrowing, live_after, backfilled_to)
       select 'wh_test', $1, '', '', '{}', array[t.name], '{}', array[t.scope], '[]', 0, 0 from fanfare.event_type t where t.name = 'note.written'`,
      [accountId],
    );
    await emit(client, BATCH);
    await client.query('begin');
    const stamped = await touchedBy(client, '(event|log)\\_.*', () => stamp(client));
    expect(stamped.rows).toBe(BATCH);
    const { rows } = await client.query<{ count: number }>('select count(*)::int as count from fanfare.delivery');
    expect(rows[0]?.count).toBe(BATCH);
    expect(stamped.touched).toBeLessThan(5 * BATCH);
    const naive = await touchedBy(client, '(event|log)\\_.*', () => matchByLog(client));
    expect(naive.rows).toBe(BATCH);
    expect(naive.touched).toBeGreaterThan(WAITING);
    await client.query('rollback');
  });
});

function emit(client: Client, count: number) {
  return client.query(
    `select count(fanfare.emit($1, 'note.written', 'note_' || n % 2, $2::jsonb)) from generate_series(1, $3::int) n`,
    [accountId, JSON.stringify(written('text')), count],
  );
}

function stamp(client: Client) {
  return client.query(
    `with held as (update fanfare.shard set owner = 'test', generation = generation + 1, lease_until = 'infinity' returning id, generation)
     select stamped.* from (select array_agg(id) as ids, array_agg(generation) as generations, '{}'::bigint[] as none from held) h,
     (select array_agg(seq) as seen from fanfare.outbox) o,
     lateral fanfare.stamp(h.ids, h.generations, o.seen, h.none, '{}', $1) stamped`,
    [BATCH],
  );
}

const NO_SCANS = ['seqscan', 'hashjoin', 'mergejoin', 'bitmapscan'].map((kind) => `set local enable_${kind} = off`);

async function deleteByKey(client: Client) {
  for (const setting of NO_SCANS) await client.query(setting);
  return client.query(
    `with candidate as (select o.shard, o.seq from fanfare.outbox o order by o.seq limit $1)
     delete from fanfare.outbox o using candidate c where o.shard = c.shard and o.seq = c.seq`,
    [BATCH],
  );
}

/** In the order that was planned for it while the tables were empty. */
async function matchByLog(client: Client) {
  for (const setting of [...NO_SCANS, 'set local join_collapse_limit = 1']) await client.query(setting);
  return client.query(
    `select w.id from fanfare.webhook w
     join fanfare.log l on l.account_id = w.account_id and l.position > w.live_after
     join fanfare.delivery d on d.webhook_id = w.id and d.seq = l.seq`,
  );
}

async function countByJoin(client: Client) {
  for (const setting of NO_SCANS) await client.query(setting);
  return client.query(
    `select count(*) from (
       select g.position from fanfare.log g join fanfare.event e on e.seq = g.seq
       where g.account_id = $1 and g.position > 0 and g.position <= 1000 and e.subject_id = any('{note_1}')
       order by g.position limit 10) w`,
    [accountId],
  );
}

/** Rows of these tables that a statement fetched, and those that it gave; within one transaction. */
async function touchedBy(client: Client, tables: string, run: () => Promise<{ rowCount: number | null }>) {
  const before = await readTouched(client, tables);
  const { rowCount } = await run();
  return { rows: rowCount, touched: (await readTouched(client, tables)) - before };
}

async function readTouched(client: Client, tables: string): Promise<number> {
  const { rows } = await client.query<{ touched: number }>(
    `select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int as touched from pg_stat_xact_user_tables
     where schemaname = 'fanfare' and relname ~ ('^' || $1 || '$')`,
    [tables],
  );
  return rows[0]?.touched ?? 0;
}
