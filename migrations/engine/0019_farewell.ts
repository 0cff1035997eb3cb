import { type Kysely, sql } from 'kysely';

/** The open deliveries of a deleted webhook are cancelled in batches. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  // Whose deliveries are not all cancelled yet. In the transaction that deletes it, which holds the account's head, 150,000 took 8 s: so
  // long nothing was stamped in its shard, and 500,000 would not have been cancelled within a change's time.
  sql`create table fanfare.deleted_webhook (id text collate "C" primary key, account_id text collate "C" not null)`,
  // Of one webhook, or of whichever is next. Gives how many it has cancelled: as many as it may, as long as there are more.
  sql`create function fanfare.cancel_deleted(p_webhook_id text, p_reason text, p_limit int) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      w fanfare.deleted_webhook;
      v_row record;
      v_count int := 0;
    begin
      select * into w from fanfare.deleted_webhook
      where p_webhook_id is null or id = p_webhook_id order by id limit 1 for update skip locked;
      if not found then
        return 0;
      end if;
      for v_row in
        with open as materialized (
          select d.* from fanfare.delivery d where d.webhook_id = w.id order by d.next_at, d.position limit p_limit for update of d skip locked
        ), done as (
          insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
          select o.account_id, o.id, o.webhook_id, o.seq, o.position, o.event_id, 'CANCELLED', p_reason, o.generation, o.attempts, o.body_key, o.born_at, fanfare.now(), o.run
          from open o where o.account_id = w.account_id
          returning account_id, id
        )
        select done.account_id, done.id from done
      loop
        delete from fanfare.delivery d where d.account_id = v_row.account_id and d.id = v_row.id;
        v_count := v_count + 1;
      end loop;
      if not exists (select from fanfare.delivery d where d.webhook_id = w.id) then
        delete from fanfare.deleted_webhook where id = w.id;
      end if;
      return v_count;
    end
  $$`,
  sql`drop function fanfare.cancel_deliveries`,
  // Of those that are open what the webhook asks for no more, each by its key.
  sql`create function fanfare.cancel_unwanted(p_account_id text, p_webhook_id text, p_reason text) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_row record;
      v_count int := 0;
    begin
      for v_row in
        with unwanted as materialized (
          select d.* from fanfare.delivery d
          where d.account_id = p_account_id and d.webhook_id = p_webhook_id and d.seq > 0 and not exists (
            select from fanfare.event e join fanfare.webhook w on w.id = d.webhook_id
            where e.seq = d.seq and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed))
          order by d.id for update of d
        ), done as (
          insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
          select u.account_id, u.id, u.webhook_id, u.seq, u.position, u.event_id, 'CANCELLED', p_reason, u.generation, u.attempts, u.body_key, u.born_at, fanfare.now(), u.run
          from unwanted u returning account_id, id
        )
        select done.account_id, done.id from done
      loop
        delete from fanfare.delivery d where d.account_id = v_row.account_id and d.id = v_row.id;
        v_count := v_count + 1;
      end loop;
      return v_count;
    end
  $$`,
  // As before; what a deleted webhook still has is cancelled.
  sql`create or replace view fanfare.delivery_record as
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position,
           case when d.is_blocking then 'EXHAUSTED'
                when not exists (select from fanfare.webhook w where w.id = d.webhook_id) then 'CANCELLED'
                when d.lease_until > now() then 'SENDING'
                when (select w.status = 'DISABLED' or w.parked_reason is not null from fanfare.webhook w where w.id = d.webhook_id) then 'PARKED'
                when d.next_at = 'infinity' then 'WAITING'
                else 'PENDING' end as status,
           null::text as error, d.attempts, d.seq, d.body_key, d.born_at,
           nullif(greatest(d.next_at, (select w.held_until from fanfare.webhook w where w.id = d.webhook_id and w.held_until > fanfare.now())), 'infinity') as next_at,
           null::timestamptz as finished_at, d.run, d.subject
    from fanfare.delivery d
    union all
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position, d.status, d.error, d.attempts, d.seq, d.body_key, d.born_at, null,
           d.finished_at, d.run, null
    from fanfare.delivery_done d`,
];
