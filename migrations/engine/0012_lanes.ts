import { type Kysely, sql } from 'kysely';

/** Order within a subject, and runs beside the first. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...columns, ...sending]) await statement.execute(db);
}

const columns = [
  // ordering: PER_SUBJECT: within a subject each delivery waits for the one before it; on_exhausted: what becomes of those that
  // wait for one that has used up its attempts.
  sql`alter table fanfare.webhook
    add ordering text not null default 'UNORDERED' check (ordering in ('UNORDERED', 'PER_SUBJECT')),
    add on_exhausted text not null default 'SKIP' check (on_exhausted in ('SKIP', 'BLOCK'))`,
  // run: of a replay or a manual resend, null for the first; subject: set where the order within it is kept
  sql`alter table fanfare.delivery add run text collate "C", add subject text collate "C"`,
  sql`alter table fanfare.delivery_done add run text collate "C"`,
];

const sending = [
  sql`drop function fanfare.claim_deliveries`,
  // For each webhook that may be sent to, the first p_cap due rows are its window, those in flight among them: so no
  // more than p_cap are under way over all processes ("cap minus those in flight" went to 32 of 8 with racing claims).
  // A webhook that keeps failing has a smaller window. The window is read without locks; the rows are locked, and their
  // conditions checked again, outside of it. Each webhook gets its first before any gets its second, and the last quarter
  // of an account's places, and p_reserved of the process's, are for first ones only: many that hang hold up no other.
  // A webhook that is held is left out until that is over; then it has a window of one, by which it is tried, until one
  // succeeds. One with a rate has as many as it has left, in the manner of GCRA: each takes 1 / rate of the time, of which at
  // most 0.4 s are kept for later, or one request's. Such webhooks are locked: two claims with different windows would take what is left twice.
  sql`create function fanfare.claim_deliveries(
    p_limit int, p_reserved int, p_lease interval, p_cap int, p_account_cap int, p_busy_accounts text[], p_busy_counts int[]
  ) returns table (
    account_id text, id text, webhook_id text, seq bigint, "position" bigint, event_id text, generation int, step smallint,
    attempts int, since_first_ms bigint, body_key text, run text
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_now timestamptz;
    begin
      if not exists (select from fanfare.delivery) then
        return;
      end if;
      v_now := fanfare.now();
      return query
      with recursive with_work (id) as (
        (select d.webhook_id from fanfare.delivery d order by d.webhook_id limit 1)
        union all
        select (select d.webhook_id from fanfare.delivery d where d.webhook_id > last.id order by d.webhook_id limit 1)
        from with_work last where last.id is not null
      ), open as (
        select w.id, w.rate_limit,
               case when w.holds > 0 or w.failures >= 5 then 1
                    when w.failures = 0 then coalesce(w.max_in_flight, p_cap)
                    else greatest(coalesce(w.max_in_flight, p_cap) / 2, 1) end as cap
        from with_work join fanfare.webhook w on w.id = with_work.id
        where w.status = 'ACTIVE' and w.parked_reason is null and (w.held_until is null or w.held_until <= v_now)
      ), paced as (
        -- only what has something to send, and some of its rate left: a poll that finds nothing writes nothing
        select w.id, open.cap, fanfare.rate_left(w, v_now) as left
        from open join fanfare.webhook w on w.id = open.id
        where open.rate_limit is not null and fanfare.rate_left(w, v_now) > 0
          and exists (select from fanfare.delivery d where d.webhook_id = w.id and d.next_at <= v_now
                      and (d.lease_until is null or d.lease_until <= clock_timestamp()))
        for update of w skip locked
      ), ready as (
        select open.id, open.cap, p_limit as left from open where open.rate_limit is null
        union all
        select paced.id, paced.cap, paced.left from paced
      ), front as (
        select f.*, ready.left, row_number() over (partition by ready.id order by f.rank) as free_rank
        from ready cross join lateral (
          select d.account_id, d.id, d.next_at, d.lease_until, row_number() over (order by d.next_at, d.position) as rank
          from fanfare.delivery d where d.webhook_id = ready.id and d.next_at <= v_now
          order by d.next_at, d.position limit ready.cap
        ) f where f.lease_until is null or f.lease_until <= clock_timestamp()
      ), fair as (
        select f.account_id, f.id, f.rank, f.next_at,
               row_number() over (partition by f.account_id order by f.rank, f.next_at)
                 + coalesce((select b.count from unnest(p_busy_accounts, p_busy_counts) as b (account_id, count) where b.account_id = f.account_id), 0)
                 as account_rank,
               row_number() over (order by f.rank, f.next_at) as overall_rank
        from front f where f.free_rank <= f.left
      ), locked as (
        select d.account_id, d.id from fair f
        join fanfare.delivery d on d.account_id = f.account_id and d.id = f.id
        where f.account_rank <= case when f.rank = 1 then p_account_cap else p_account_cap - p_account_cap / 4 end
          and (f.rank = 1 or f.overall_rank <= p_limit - p_reserved)
          and d.next_at <= v_now and (d.lease_until is null or d.lease_until <= clock_timestamp())
        order by f.rank, f.next_at limit p_limit for update of d skip locked
      ), taken as (
        update fanfare.delivery d set lease_until = clock_timestamp() + p_lease, generation = d.generation + 1
        from locked where d.account_id = locked.account_id and d.id = locked.id
        returning d.account_id, d.id, d.webhook_id, d.seq, d.position, d.event_id, d.generation, d.step, d.attempts,
          coalesce((extract(epoch from v_now - d.began_at) * 1000)::bigint, 0), d.body_key, d.run
      ), spent as (
        update fanfare.webhook w set rate_next_at = fanfare.rate_from(w, v_now) + t.count / w.rate_limit * interval '1 second'
        from (select taken.webhook_id, count(*) as count from taken group by taken.webhook_id) t
        where w.id = t.webhook_id and w.id in (select p.id from paced p)
      )
      select * from taken;
    end
  $$`,
];
