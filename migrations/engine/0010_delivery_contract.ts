import { type Kysely, sql } from 'kysely';

/** What a webhook's maker decides about what it gets and when: triggers, a schedule of retries; and the receiver's own pace. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...columns, ...matching, ...sending]) await statement.execute(db);
}

const columns = [
  // retry_delays: seconds before the second attempt, the third and so on; null: the engine's own. retry_window: seconds
  // from the first attempt to the last; null: as long as there are delays. held_until: the receiver asked for a pause, or keeps
  // failing; holds: how often in a row. max_in_flight: null: the worker's own. rate_limit: requests a second, over all
  // processes; null: none; rate_next_at: up to when they are used up.
  sql`alter table fanfare.webhook
    add triggers text[],
    add retry_delays int[],
    add retry_window int,
    add held_until timestamptz,
    add holds int not null default 0,
    add max_in_flight smallint,
    add rate_limit double precision check (rate_limit > 0),
    add rate_next_at timestamptz not null default '-infinity'`,
  // began_at: of the first attempt on the present schedule; null before it
  sql`alter table fanfare.delivery add began_at timestamptz`,

  // next_at as it will be: while a webhook is held nothing goes out to it.
  sql`create or replace view fanfare.delivery_record as
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position,
           case when d.lease_until > now() then 'SENDING'
                when (select w.status = 'DISABLED' or w.parked_reason is not null from fanfare.webhook w where w.id = d.webhook_id) then 'PARKED'
                else 'PENDING' end as status,
           null::text as error, d.attempts, d.seq, d.body_key, d.born_at,
           greatest(d.next_at, (select w.held_until from fanfare.webhook w where w.id = d.webhook_id and w.held_until > fanfare.now())) as next_at,
           null::timestamptz as finished_at
    from fanfare.delivery d
    union all
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position, d.status, d.error, d.attempts, d.seq, d.body_key, d.born_at, null, d.finished_at
    from fanfare.delivery_done d`,
];

const matching = [
  // The algebra of src/outbox/filter.ts; a test compares both.
  sql`create or replace function fanfare.filter_holds(f jsonb, name text, subject_id text, related text[], changed text[])
  returns boolean language sql immutable as $$
    select (not f ? 'types' or f->'types' ? name) and (not f ? 'subjects' or f->'subjects' ? subject_id)
       and (not f ? 'related' or f->'related' ?| related) and (not f ? 'changed' or f->'changed' ?| changed)
       and (not f ? 'triggers' or changed = '{}' or f->'triggers' ?| changed)
  $$`,
  sql`create or replace function fanfare.webhook_wants(w fanfare.webhook, name text, subject_id text, related text[], changed text[])
  returns boolean language sql stable as $$
    select (w.types is null or name = any(w.types)) and (w.subjects is null or subject_id = any(w.subjects))
       and (w.related is null or related && w.related) and (w.changed is null or changed && w.changed)
       and (w.triggers is null or changed = '{}' or changed && w.triggers)
       and exists (select from fanfare.event_type t where t.name = webhook_wants.name and t.scope = any(w.scopes))
       and not exists (
         select from jsonb_array_elements(w.narrowing) as granted (f)
         where not fanfare.filter_holds(granted.f, webhook_wants.name, webhook_wants.subject_id, webhook_wants.related, webhook_wants.changed)
       )
  $$`,
];

const sending = [
  // From when on a webhook's rate counts: what was not used before is gone. A little is added, since an interval has whole µs,
  // and what is saved up must be enough for one request.
  sql`create function fanfare.rate_from(w fanfare.webhook, p_now timestamptz) returns timestamptz language sql immutable as $$
    select greatest(w.rate_next_at, p_now - (greatest(0.4, 1 / w.rate_limit) + 0.00001) * interval '1 second')
  $$`,
  // How many requests it allows now.
  sql`create function fanfare.rate_left(w fanfare.webhook, p_now timestamptz) returns int language sql immutable as $$
    select floor(w.rate_limit * extract(epoch from p_now - fanfare.rate_from(w, p_now)))::int
  $$`,
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
    attempts int, since_first_ms bigint, body_key text
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
          coalesce((extract(epoch from v_now - d.began_at) * 1000)::bigint, 0), d.body_key
      ), spent as (
        update fanfare.webhook w set rate_next_at = fanfare.rate_from(w, v_now) + t.count / w.rate_limit * interval '1 second'
        from (select taken.webhook_id, count(*) as count from taken group by taken.webhook_id) t
        where w.id = t.webhook_id and w.id in (select p.id from paced p)
      )
      select * from taken;
    end
  $$`,

  // Each result counts only under the generation of its claim, and only until the claim has ended: a batch that is written
  // again because the answer to its commit was lost counts once. status PENDING schedules the next attempt, RELEASED hands
  // the claim back as if it had not been made, all others end the delivery. Gives those that counted.
  sql`create or replace function fanfare.finish_deliveries(p_results jsonb) returns table (id text, status text, next_at timestamptz)
  language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_now timestamptz := fanfare.now();
    begin
      return query
      with result as (
        select r.* from jsonb_to_recordset(p_results) as r (
          account_id text, id text, generation int, status text, delay_ms bigint, error text, started_at timestamptz, duration_ms int,
          status_code int, error_class text, reason text, response_headers jsonb, response_body text, is_truncated boolean, remote_address text)
      ), mine as (
        select r.*, d.born_at, d.attempts, case when r.status = 'PENDING' then v_now + r.delay_ms * interval '1 ms' end as next_at
        from result r join fanfare.delivery d on d.account_id = r.account_id and d.id = r.id and d.generation = r.generation
        where d.lease_until is not null
        order by d.account_id, d.id for update of d
      ), again as (
        update fanfare.delivery d
        set lease_until = null, next_at = coalesce(m.next_at, d.next_at),
            step = d.step + (m.started_at is not null)::int, attempts = d.attempts + (m.started_at is not null)::int,
            began_at = coalesce(d.began_at, v_now - m.duration_ms * interval '1 ms')
        from mine m where d.account_id = m.account_id and d.id = m.id and m.status in ('PENDING', 'RELEASED')
        returning d.id
      ), gone as (
        delete from fanfare.delivery d using mine m
        where d.account_id = m.account_id and d.id = m.id and m.status not in ('PENDING', 'RELEASED')
        returning d.*, m.status as outcome, m.error, (m.started_at is not null)::int as made
      ), done as (
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, g.outcome, g.error, g.generation, g.attempts + g.made, g.body_key, g.born_at, v_now
        from gone g
      ), evidence as (
        insert into fanfare.attempt (account_id, delivery_id, number, started_at, duration_ms, status_code, error_class, reason,
                                     response_headers, response_body, is_truncated, remote_address, next_at, born_at)
        select m.account_id, m.id, m.attempts + 1, m.started_at, m.duration_ms, m.status_code, m.error_class, m.reason,
               m.response_headers, m.response_body, m.is_truncated, m.remote_address, m.next_at, m.born_at
        from mine m where m.started_at is not null
      )
      select m.id, m.status, m.next_at from mine m;
    end
  $$`,
];
