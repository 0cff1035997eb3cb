import { type Kysely, sql } from 'kysely';

/** Runs are cancelled and opened again by the keys of their deliveries, however many others there are. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of running) await statement.execute(db);
}

const running = [
  // As before, but from what was found to its rows, each by its key: by a join all of the account's open deliveries were read for each,
  // and beside 400,000 of them 6,000 could not be cancelled within a change's time. Found by the run alone, whose index it is: a run is of one account.
  sql`create or replace function fanfare.cancel_run(p_account_id text, p_run text, p_reason text) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_row record;
      v_count int := 0;
    begin
      for v_row in
        with waiting as materialized (
          select d.* from fanfare.delivery d
          where d.run = p_run and (d.lease_until is null or d.lease_until <= clock_timestamp())
          order by d.id for update of d skip locked
        ), done as (
          insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
          select w.account_id, w.id, w.webhook_id, w.seq, w.position, w.event_id, 'CANCELLED', p_reason, w.generation, w.attempts, w.body_key, w.born_at, fanfare.now(), w.run
          from waiting w where w.account_id = p_account_id
          returning account_id, id
        )
        select done.account_id, done.id from done
      loop
        delete from fanfare.delivery d where d.account_id = v_row.account_id and d.id = v_row.id;
        v_count := v_count + 1;
      end loop;
      return v_count;
    end
  $$`,
  sql`create or replace function fanfare.reopen_run(p_account_id text, p_run text, p_reason text) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_row record;
      v_count int := 0;
    begin
      for v_row in
        with cancelled as materialized (
          select d.* from fanfare.delivery_done d where d.run = p_run and d.status = 'CANCELLED' and d.error = p_reason for update of d
        ), born as (
          insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, generation, attempts, body_key, born_at, run)
          select c.account_id, c.id, c.webhook_id, c.seq, c.position, c.event_id, fanfare.now(), c.generation, c.attempts, c.body_key, c.born_at, c.run
          from cancelled c join fanfare.webhook w on w.id = c.webhook_id
          cross join lateral (select e.name, e.subject_id, e.related, e.changed from fanfare.event e where e.seq = c.seq limit 1) e
          where c.account_id = p_account_id and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed)
            and (select 1 from fanfare.log l where l.seq = c.seq limit 1) is not null
          returning account_id, id, born_at
        )
        select born.account_id, born.id, born.born_at from born
      loop
        delete from fanfare.delivery_done d where d.account_id = v_row.account_id and d.id = v_row.id and d.born_at = v_row.born_at;
        v_count := v_count + 1;
      end loop;
      update fanfare.replay r set cancelled = r.cancelled - v_count where r.account_id = p_account_id and r.id = p_run;
      return v_count;
    end
  $$`,
];
