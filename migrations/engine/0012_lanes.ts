import { type Kysely, sql } from 'kysely';

/** Webhooks are sent to by one process at a time, which may claim ahead; order within a subject; runs beside the first. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...columns, ...ordering, ...births, ...sending]) await statement.execute(db);
}

const columns = [
  // ordering: PER_SUBJECT: within a subject each delivery waits for the one before it; on_exhausted: what becomes of those that
  // wait for one that has used up its attempts.
  sql`alter table fanfare.webhook
    add ordering text not null default 'UNORDERED' check (ordering in ('UNORDERED', 'PER_SUBJECT')),
    add on_exhausted text not null default 'SKIP' check (on_exhausted in ('SKIP', 'BLOCK'))`,
  // serves: the look, at each birth, whether any keeps an order
  sql`create index webhook_ordered on fanfare.webhook (account_id) where ordering <> 'UNORDERED'`,
  // run: of a replay or a manual resend, null for the first. subject: set where the order within it is kept; who waits for
  // an earlier one of it has next_at 'infinity': off the claim's index, 10,000 waiting ones cost a claim 0.6 ms instead of 84.
  // is_blocking: its attempts are used up, and those behind it wait on.
  sql`alter table fanfare.delivery
    add run text collate "C",
    add subject text collate "C",
    add is_blocking boolean not null default false`,
  sql`alter table fanfare.delivery_done add run text collate "C"`,
  // Bodies of 2 KB and more are compressed: at a fifth of the cost where this Postgres has it.
  sql`do $$
    declare
      v_table regclass;
    begin
      for v_table in select 'fanfare.body'::regclass union all select i.inhrelid::regclass from pg_inherits i where i.inhparent = 'fanfare.body'::regclass loop
        execute format('alter table %s alter column body set compression lz4', v_table);
      end loop;
    exception when feature_not_supported or invalid_parameter_value then
      raise notice 'fanfare: without lz4';
    end
  $$`,
  // serves: the first of a subject
  sql`create index delivery_subject on fanfare.delivery (webhook_id, subject, position) where subject is not null`,
  // Whose turn it is to send to a webhook. Not logged: after a crash of the database nobody has one.
  sql`create unlogged table fanfare.turn (
    webhook_id text collate "C" primary key,
    holder text not null,
    lease_until timestamptz not null
  ) with (fillfactor = 50)`,

  // As before; who waits has no time of a next attempt.
  sql`create or replace view fanfare.delivery_record as
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position,
           case when d.is_blocking then 'EXHAUSTED'
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

const ordering = [
  // Whoever gives birth in a subject, or ends one of it, first takes its lock, of several in the order of their keys, and looks in
  // the next statement: without, an end and a birth that do not see each other left 92 of 100 subjects waiting for ever.
  sql`create function fanfare.lock_subjects(p_webhook_ids text[], p_subjects text[]) returns void language plpgsql as $$
    begin
      perform pg_advisory_xact_lock(k.key) from (
        select distinct hashtextextended(s.webhook_id || ' ' || s.subject, 0) as key
        from unnest(p_webhook_ids, p_subjects) as s (webhook_id, subject) order by key
      ) k;
    end
  $$`,
  // Lets the first of each of these subjects go, if it waits; not one behind which the past is still being looked through.
  sql`create function fanfare.wake_subjects(p_webhook_ids text[], p_subjects text[]) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_count int;
    begin
      update fanfare.delivery d set next_at = fanfare.now()
      from (select distinct s.webhook_id, s.subject from unnest(p_webhook_ids, p_subjects) as s (webhook_id, subject)) s
      join fanfare.webhook w on w.id = s.webhook_id
      cross join lateral (
        select f.account_id, f.id, f.next_at, f.position, f.is_blocking from fanfare.delivery f
        where f.webhook_id = s.webhook_id and f.subject = s.subject order by f.position limit 1
      ) f
      where d.account_id = f.account_id and d.id = f.id and f.next_at = 'infinity' and not f.is_blocking
        and (f.position <= w.backfilled_to or w.backfilled_to >= w.live_after);
      get diagnostics v_count = row_count;
      return v_count;
    end
  $$`,
  // The same for all that wait behind nothing: after deliveries were cancelled, or an order was asked for. Of one webhook, or of all.
  sql`create function fanfare.wake_waiting(p_webhook_id text) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_webhook_ids text[];
      v_subjects text[];
    begin
      with recursive s (webhook_id, subject) as (
        (select d.webhook_id, d.subject from fanfare.delivery d
         where d.subject is not null and (p_webhook_id is null or d.webhook_id = p_webhook_id) order by d.webhook_id, d.subject limit 1)
        union all
        select n.webhook_id, n.subject from s cross join lateral (
          select d.webhook_id, d.subject from fanfare.delivery d
          where d.subject is not null and (d.webhook_id, d.subject) > (s.webhook_id, s.subject) order by d.webhook_id, d.subject limit 1
        ) n where p_webhook_id is null or n.webhook_id = p_webhook_id
      )
      select array_agg(s.webhook_id), array_agg(s.subject) into v_webhook_ids, v_subjects
      from s cross join lateral (
        select f.next_at, f.is_blocking from fanfare.delivery f
        where f.webhook_id = s.webhook_id and f.subject = s.subject order by f.position limit 1
      ) f where f.next_at = 'infinity' and not f.is_blocking;
      if v_subjects is null then
        return 0;
      end if;
      perform fanfare.lock_subjects(v_webhook_ids, v_subjects);
      return fanfare.wake_subjects(v_webhook_ids, v_subjects);
    end
  $$`,
  // After a change of a webhook's ordering, or of what becomes of those behind an exhausted one. Its row and the account's head are locked.
  sql`create function fanfare.reorder_webhook(p_webhook_id text) returns void language plpgsql as $$
    declare
      w fanfare.webhook;
    begin
      select * into w from fanfare.webhook where id = p_webhook_id;
      if w.ordering = 'UNORDERED' or w.on_exhausted = 'SKIP' then
        with gone as (
          delete from fanfare.delivery d where d.webhook_id = w.id and d.is_blocking returning d.*
        )
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, generation, attempts, body_key, born_at, finished_at, run)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, 'EXHAUSTED', g.generation, g.attempts, g.body_key, g.born_at, fanfare.now(), g.run
        from gone g;
      end if;
      if w.ordering = 'UNORDERED' then
        update fanfare.delivery d set subject = null, next_at = fanfare.now()
        where d.webhook_id = w.id and d.subject is not null and d.next_at = 'infinity';
        update fanfare.delivery d set subject = null where d.webhook_id = w.id and d.subject is not null;
        return;
      end if;
      -- those that are open already: each but the first of a subject waits, unless it is under way
      update fanfare.delivery d
      set subject = o.subject,
          next_at = case when o.number > 1 and (d.lease_until is null or d.lease_until <= clock_timestamp()) then 'infinity' else d.next_at end
      from (
        select d.account_id, d.id, e.subject_type || ' ' || e.subject_id as subject,
               row_number() over (partition by e.subject_type, e.subject_id order by d.position) as number
        from fanfare.delivery d join fanfare.event e on e.seq = d.seq
        where d.webhook_id = w.id and d.subject is null and d.run is null and d.seq > 0
      ) o
      where d.account_id = o.account_id and d.id = o.id;
    end
  $$`,
];

const births = [
  // In three parts. The first is a plain expression, which the planner puts in place of the call; as one, with its subqueries, it was
  // called for each webhook of each event, at 20 µs.
  sql`create function fanfare.webhook_asks(w fanfare.webhook, name text, subject_id text, related text[], changed text[])
  returns boolean language sql immutable as $$
    select (w.types is null or name = any(w.types)) and (w.subjects is null or subject_id = any(w.subjects))
       and (w.related is null or related && w.related) and (w.changed is null or changed && w.changed)
       and (w.triggers is null or changed = '{}' or changed && w.triggers)
  $$`,
  sql`create function fanfare.is_within_grants(narrowing jsonb, name text, subject_id text, related text[], changed text[])
  returns boolean language sql immutable as $$
    select not exists (
      select from jsonb_array_elements(narrowing) as granted (f)
      where not fanfare.filter_holds(granted.f, is_within_grants.name, is_within_grants.subject_id, is_within_grants.related, is_within_grants.changed)
    )
  $$`,
  sql`create or replace function fanfare.webhook_wants(w fanfare.webhook, name text, subject_id text, related text[], changed text[])
  returns boolean language sql stable as $$
    select fanfare.webhook_asks(w, name, subject_id, related, changed)
       and exists (select from fanfare.event_type t where t.name = webhook_wants.name and t.scope = any(w.scopes))
       and (w.narrowing = '[]' or fanfare.is_within_grants(w.narrowing, webhook_wants.name, webhook_wants.subject_id, webhook_wants.related, webhook_wants.changed))
  $$`,
  // As before, but also for disabled webhooks, whose deliveries wait; and those that keep an order are born waiting, and woken.
  sql`create or replace function fanfare.match_webhooks(p_seqs bigint[], p_at timestamptz, p_from timestamptz, p_to timestamptz) returns void language plpgsql as $$
    declare
      v_now timestamptz;
      v_webhook_ids text[];
      v_subjects text[];
    begin
      if not exists (select from fanfare.webhook) then
        return;
      end if;
      v_now := date_trunc('milliseconds', fanfare.now());
      if exists (select from fanfare.webhook where ordering <> 'UNORDERED') then
        select array_agg(w.id), array_agg(e.subject_type || ' ' || e.subject_id) into v_webhook_ids, v_subjects
        from unnest(p_seqs) as stamped (seq)
        join fanfare.log l on l.seq = stamped.seq and l.stamped_at = p_at
        join fanfare.webhook w on w.account_id = l.account_id and w.ordering <> 'UNORDERED'
        join fanfare.event e on e.seq = l.seq and e.occurred_at between p_from and p_to
        join fanfare.event_type t on t.name = e.name
        where l.position > w.live_after and t.scope = any(w.scopes)
          and fanfare.webhook_asks(w, e.name, e.subject_id, e.related, e.changed)
          and (w.narrowing = '[]' or fanfare.is_within_grants(w.narrowing, e.name, e.subject_id, e.related, e.changed));
        perform fanfare.lock_subjects(v_webhook_ids, v_subjects);
      end if;
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at, subject)
      select l.account_id, fanfare.new_id('dlv', v_now), w.id, l.seq, l.position, e.id,
             case when w.ordering = 'UNORDERED' then l.stamped_at else 'infinity' end, v_now,
             case when w.ordering <> 'UNORDERED' then e.subject_type || ' ' || e.subject_id end
      from unnest(p_seqs) as stamped (seq)
      join fanfare.log l on l.seq = stamped.seq and l.stamped_at = p_at
      join fanfare.webhook w on w.account_id = l.account_id
      join fanfare.event e on e.seq = l.seq and e.occurred_at between p_from and p_to
      join fanfare.event_type t on t.name = e.name
      where l.position > w.live_after and t.scope = any(w.scopes)
        and fanfare.webhook_asks(w, e.name, e.subject_id, e.related, e.changed)
        and (w.narrowing = '[]' or fanfare.is_within_grants(w.narrowing, e.name, e.subject_id, e.related, e.changed));
      if v_subjects is not null then
        perform fanfare.wake_subjects(v_webhook_ids, v_subjects);
      end if;
    end
  $$`,
  // As before, with the same two differences.
  sql`create or replace function fanfare.backfill_webhooks(p_webhook_id text, p_limit int) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      w fanfare.webhook;
      v_to bigint;
      v_now timestamptz := date_trunc('milliseconds', fanfare.now());
      v_webhook_ids text[];
      v_subjects text[];
    begin
      select * into w from fanfare.webhook
      where backfilled_to < live_after and (p_webhook_id is null or id = p_webhook_id)
      order by id limit 1 for update skip locked;
      if not found then
        return 0;
      end if;
      v_to := least(w.live_after, w.backfilled_to + p_limit);
      with born as (
        insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at, subject)
        select l.account_id, fanfare.new_id('dlv', v_now), w.id, l.seq, l.position, e.id,
               case when w.ordering = 'UNORDERED' then l.stamped_at else 'infinity' end, v_now,
               case when w.ordering <> 'UNORDERED' then e.subject_type || ' ' || e.subject_id end
        from fanfare.log l join fanfare.event e on e.seq = l.seq
        where l.account_id = w.account_id and l.position > w.backfilled_to and l.position <= v_to
          and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed)
        returning webhook_id, subject
      )
      select array_agg(b.webhook_id), array_agg(b.subject) into v_webhook_ids, v_subjects from born b where b.subject is not null;
      update fanfare.webhook set backfilled_to = v_to where id = w.id;
      if v_subjects is not null then
        perform fanfare.lock_subjects(v_webhook_ids, v_subjects);
        perform fanfare.wake_subjects(v_webhook_ids, v_subjects);
      end if;
      if w.ordering <> 'UNORDERED' and v_to = w.live_after then
        perform fanfare.wake_waiting(w.id);
      end if;
      return (v_to - w.backfilled_to)::int;
    end
  $$`,
  sql`create or replace function fanfare.cancel_deliveries(p_account_id text, p_webhook_id text, p_unwanted_only boolean, p_reason text)
  returns int language plpgsql as $$
    declare
      v_count int;
    begin
      with unwanted as (
        select d.id from fanfare.delivery d
        where d.account_id = p_account_id and d.webhook_id = p_webhook_id
          and (not p_unwanted_only or (d.seq > 0 and not exists (
            select from fanfare.event e join fanfare.webhook w on w.id = d.webhook_id
            where e.seq = d.seq and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed))))
        order by d.id for update of d
      ), gone as (
        delete from fanfare.delivery d using unwanted u where d.account_id = p_account_id and d.id = u.id returning d.*
      ), done as (
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, 'CANCELLED', p_reason, g.generation, g.attempts, g.body_key, g.born_at, fanfare.now(), g.run
        from gone g returning 1
      )
      select count(*) into v_count from done;
      return v_count;
    end
  $$`,
];

const sending = [
  sql`drop function fanfare.claim_deliveries`,
  // One process at a time has a webhook's turn; its own count of requests under way is then that of all. It may claim
  // what it will soon get to, ahead of its cap (p_ahead: how far it looks, by webhook, 0 for those that are full as it knows; p_full: accounts that are; p_idle: what it has nothing of any more): a webhook's backlog was claimed by
  // eights otherwise, each with a dozen statements. For each webhook that may be sent to, so many of the first due rows are its
  // window, those in flight among them. A webhook that keeps failing has a small one. The window is read without locks; the turn
  // is taken, and then the rows are locked, and their conditions checked again. Each webhook gets its first before any gets its
  // second, and the last quarter of an account's places, and p_reserved of the process's, are for first ones only: many
  // that hang hold up no other. What is claimed ahead goes round the accounts.
  // A webhook that is held is left out until that is over; then it has a window of one, by which it is tried, until one
  // succeeds. One with a rate has as many as it has left, in the manner of GCRA: each takes 1 / rate of the time, of which at
  // most 0.4 s are kept for later, or one request's.
  sql`create function fanfare.claim_deliveries(
    p_holder text, p_limit int, p_ahead_limit int, p_reserved int, p_lease interval, p_cap int, p_ahead jsonb,
    p_account_cap int, p_busy_accounts text[], p_busy_counts int[], p_full text[], p_idle text[]
  ) returns table (
    account_id text, id text, webhook_id text, seq bigint, "position" bigint, event_id text, generation int, step smallint,
    attempts int, since_first_ms bigint, body_key text, run text, subject text
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_now timestamptz;
    begin
      if not exists (select from fanfare.delivery) then
        delete from fanfare.turn t where t.webhook_id = any(p_idle) and t.holder = p_holder;
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
        select w.id, w.rate_limit, c.cap,
               case when w.failures = 0 and w.holds = 0 then greatest(c.cap, coalesce((p_ahead->>w.id)::int, 0)) else c.cap end as reach
        from with_work join fanfare.webhook w on w.id = with_work.id
        cross join lateral (
          select case when w.holds > 0 or w.failures >= 5 then 1
                      when w.failures = 0 then coalesce(w.max_in_flight, p_cap)
                      else greatest(coalesce(w.max_in_flight, p_cap) / 2, 1) end as cap
        ) c
        where w.status = 'ACTIVE' and w.parked_reason is null and (w.held_until is null or w.held_until <= v_now)
          and coalesce((p_ahead->>w.id)::int, 1) > 0 and not w.account_id = any(p_full)
          and not exists (select from fanfare.turn t where t.webhook_id = w.id and t.holder <> p_holder and t.lease_until > clock_timestamp())
      ), paced as (
        -- only what has something to send, and some of its rate left: a poll that finds nothing writes nothing
        select w.id, open.cap, open.reach, fanfare.rate_left(w, v_now) as left
        from open join fanfare.webhook w on w.id = open.id
        where open.rate_limit is not null and fanfare.rate_left(w, v_now) > 0
          and exists (select from fanfare.delivery d where d.webhook_id = w.id and d.next_at <= v_now
                      and (d.lease_until is null or d.lease_until <= clock_timestamp()))
        for update of w skip locked
      ), ready as (
        select open.id, open.cap, open.reach, p_limit + p_ahead_limit as left from open where open.rate_limit is null
        union all
        select paced.id, paced.cap, paced.reach, paced.left from paced
      ), front as (
        select f.*, ready.id as webhook_id, ready.left, f.rank > ready.cap as is_ahead, row_number() over (partition by ready.id order by f.rank) as free_rank
        from ready cross join lateral (
          select d.account_id, d.id, d.next_at, d.lease_until, row_number() over (order by d.next_at, d.position) as rank
          from fanfare.delivery d where d.webhook_id = ready.id and d.next_at <= v_now
          order by d.next_at, d.position limit ready.reach
        ) f where f.lease_until is null or f.lease_until <= clock_timestamp()
      ), fair as (
        select f.account_id, f.id, f.webhook_id, f.rank, f.next_at, f.is_ahead,
               row_number() over (partition by f.account_id, f.is_ahead order by f.rank, f.next_at) as account_rank
        from front f where f.free_rank <= f.left
      ), allowed as (
        select f.*, row_number() over (partition by f.is_ahead order by case when f.is_ahead then f.account_rank else f.rank end, f.next_at) as overall_rank
        from fair f
        where f.is_ahead or f.account_rank
              + coalesce((select b.count from unnest(p_busy_accounts, p_busy_counts) as b (account_id, count) where b.account_id = f.account_id), 0)
              <= case when f.rank = 1 then p_account_cap else p_account_cap - p_account_cap / 4 end
      ), chosen as (
        select a.account_id, a.id, a.webhook_id from allowed a
        where a.overall_rank <= case when a.is_ahead then p_ahead_limit when a.rank = 1 then p_limit else p_limit - p_reserved end
      ), turned as (
        insert into fanfare.turn as t (webhook_id, holder, lease_until)
        select c.webhook_id, p_holder, clock_timestamp() + p_lease from (select distinct chosen.webhook_id from chosen) c order by c.webhook_id
        on conflict (webhook_id) do update set holder = excluded.holder, lease_until = excluded.lease_until
        where t.holder = excluded.holder or t.lease_until <= clock_timestamp()
        returning t.webhook_id
      ), ended as (
        delete from fanfare.turn t
        where t.webhook_id = any(p_idle) and t.holder = p_holder and t.webhook_id not in (select chosen.webhook_id from chosen)
      ), locked as (
        select d.account_id, d.id from turned t join chosen c on c.webhook_id = t.webhook_id
        join fanfare.delivery d on d.account_id = c.account_id and d.id = c.id
        where d.next_at <= v_now and (d.lease_until is null or d.lease_until <= clock_timestamp())
        for update of d skip locked
      ), taken as (
        update fanfare.delivery d set lease_until = clock_timestamp() + p_lease, generation = d.generation + 1
        from locked where d.account_id = locked.account_id and d.id = locked.id
        returning d.account_id, d.id, d.webhook_id, d.seq, d.position, d.event_id, d.generation, d.step, d.attempts,
          coalesce((extract(epoch from v_now - d.began_at) * 1000)::bigint, 0), d.body_key, d.run, d.subject
      ), spent as (
        update fanfare.webhook w set rate_next_at = fanfare.rate_from(w, v_now) + t.count / w.rate_limit * interval '1 second'
        from (select taken.webhook_id, count(*) as count from taken group by taken.webhook_id) t
        where w.id = t.webhook_id and w.id in (select p.id from paced p)
      )
      select * from taken;
    end
  $$`,

  // What claims are of: a row for each webhook, with its live secrets, newest first; one for each event. One statement, planned
  // once: planned anew over the partitions, it took longer than all else that an event that comes alone costs.
  sql`create function fanfare.read_claimed(p_webhook_ids text[], p_seqs bigint[], p_from timestamptz, p_to timestamptz) returns table (
    webhook jsonb, sealed text[], seq bigint, id text, account_id text, name text, payload_version int, occurred_at timestamptz,
    subject_type text, subject_id text, subject_version int, changed text[], related text[], payload jsonb, actor text, request_id text, caused_by text
  ) language plpgsql stable
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
    #variable_conflict use_column
    begin
      return query
      select to_jsonb(w), array(
               select s.sealed from fanfare.webhook_secret s
               where s.webhook_id = w.id and (s.expires_at is null or s.expires_at > fanfare.now()) order by s.id desc
             ), null::bigint, null, null, null, null::int, null::timestamptz, null, null, null::int, null::text[], null::text[], null::jsonb, null, null, null
      from fanfare.webhook w where w.id = any(p_webhook_ids);
      return query
      select null::jsonb, null::text[], e.seq, e.id, e.account_id, e.name, e.payload_version, e.occurred_at, e.subject_type, e.subject_id, e.subject_version,
             e.changed, e.related, e.payload, e.actor, e.request_id, e.caused_by
      from fanfare.event e where e.seq = any(p_seqs) and e.occurred_at between p_from and p_to;
    end
  $$`,

  // Stores bodies, and ties deliveries whose claims still hold to theirs. Gives those, and the body where another was stored under its key
  // before: in a statement of its own, whose snapshot sees what the first has waited for.
  sql`create function fanfare.store_bodies(
    p_seqs bigint[], p_keys text[], p_occurred timestamptz[], p_bodies text[],
    p_account_ids text[], p_ids text[], p_generations int[], p_tied_keys text[]
  ) returns table (id text, body text) language plpgsql set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_fresh int;
    begin
      insert into fanfare.body (seq, key, occurred_at, body)
      select b.seq, b.key, b.occurred_at, b.body
      from unnest(p_seqs, p_keys, p_occurred, p_bodies) as b (seq, key, occurred_at, body) order by b.seq, b.key
      on conflict do nothing;
      get diagnostics v_fresh = row_count;
      return query
      with tied as (
        update fanfare.delivery d set body_key = a.key
        from unnest(p_account_ids, p_ids, p_generations, p_tied_keys) as a (account_id, id, generation, key)
        where d.account_id = a.account_id and d.id = a.id and d.generation = a.generation and d.lease_until is not null
        returning d.id, d.seq, a.key
      )
      select t.id, case when v_fresh < cardinality(p_seqs) then (
        select b.body from fanfare.body b where b.seq = t.seq and b.key = t.key and b.occurred_at between (select min(o) from unnest(p_occurred) o) and (select max(o) from unnest(p_occurred) o)
      ) end from tied t;
    end
  $$`,

  // As before. An exhausted one that keeps an order stays, and those behind it wait, if its webhook says so; each other end lets
  // the next of its subject go.
  sql`create or replace function fanfare.finish_deliveries(p_results jsonb) returns table (id text, status text, next_at timestamptz)
  language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_now timestamptz := fanfare.now();
      v_webhook_ids text[];
      v_subjects text[];
    begin
      select array_agg(r.webhook_id), array_agg(r.subject) into v_webhook_ids, v_subjects
      from jsonb_to_recordset(p_results) as r (webhook_id text, subject text, status text)
      where r.subject is not null and r.status not in ('PENDING', 'RELEASED');
      if v_subjects is not null then
        perform fanfare.lock_subjects(v_webhook_ids, v_subjects);
      end if;
      return query
      with result as (
        select r.* from jsonb_to_recordset(p_results) as r (
          account_id text, id text, generation int, status text, delay_ms bigint, error text, started_at timestamptz, duration_ms int,
          status_code int, error_class text, reason text, response_headers jsonb, response_body text, is_truncated boolean, remote_address text)
      ), mine as (
        select r.*, d.born_at, d.attempts, case when r.status = 'PENDING' then v_now + r.delay_ms * interval '1 ms' end as next_at,
               r.status = 'EXHAUSTED' and d.subject is not null
                 and (select w.on_exhausted = 'BLOCK' from fanfare.webhook w where w.id = d.webhook_id) as blocks
        from result r join fanfare.delivery d on d.account_id = r.account_id and d.id = r.id and d.generation = r.generation
        where d.lease_until is not null
        order by d.account_id, d.id for update of d
      ), again as (
        update fanfare.delivery d
        set lease_until = null, next_at = case when m.blocks then 'infinity' else coalesce(m.next_at, d.next_at) end, is_blocking = m.blocks,
            step = d.step + (m.started_at is not null)::int, attempts = d.attempts + (m.started_at is not null)::int,
            began_at = coalesce(d.began_at, v_now - m.duration_ms * interval '1 ms')
        from mine m where d.account_id = m.account_id and d.id = m.id and (m.status in ('PENDING', 'RELEASED') or m.blocks)
        returning d.id
      ), gone as (
        delete from fanfare.delivery d using mine m
        where d.account_id = m.account_id and d.id = m.id and m.status not in ('PENDING', 'RELEASED') and not m.blocks
        returning d.*, m.status as outcome, m.error, (m.started_at is not null)::int as made
      ), done as (
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, g.outcome, g.error, g.generation, g.attempts + g.made, g.body_key, g.born_at, v_now, g.run
        from gone g
      ), evidence as (
        insert into fanfare.attempt (account_id, delivery_id, number, started_at, duration_ms, status_code, error_class, reason,
                                     response_headers, response_body, is_truncated, remote_address, next_at, born_at)
        select m.account_id, m.id, m.attempts + 1, m.started_at, m.duration_ms, m.status_code, m.error_class, m.reason,
               m.response_headers, m.response_body, m.is_truncated, m.remote_address, m.next_at, m.born_at
        from mine m where m.started_at is not null
      )
      select m.id, m.status, m.next_at from mine m;
      if v_subjects is not null then
        perform fanfare.wake_subjects(v_webhook_ids, v_subjects);
      end if;
    end
  $$`,
];
