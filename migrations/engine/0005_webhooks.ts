import { type Kysely, sql } from 'kysely';

/** Webhooks, their deliveries from birth to record, and the statements that both sides share. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...tables, ...matching, ...sending]) await statement.execute(db);
}

const tables = [
  // A principal of its own: scopes and narrowing are what was granted. types to changed are its document's own filter
  // (null: the part is absent). Events up to live_after are matched by the backfill, those behind it by the stamp.
  sql`create table fanfare.webhook (
    id text collate "C" primary key,
    account_id text collate "C" not null references fanfare.account,
    url text not null,
    description text not null,
    metadata jsonb not null,
    status text not null default 'ACTIVE' check (status in ('ACTIVE', 'PAUSED', 'DISABLED')),
    disabled_reason text,
    parked_reason text,
    event_types text[],
    document text,
    variables jsonb not null,
    scopes text[] not null,
    narrowing jsonb not null check (jsonb_typeof(narrowing) = 'array'),
    types text[],
    subjects text[],
    related text[],
    changed text[],
    live_after bigint not null,
    backfilled_to bigint not null,
    failures int not null default 0,
    version int not null default 1,
    created_by text,
    created_at timestamptz not null default fanfare.now(),
    updated_at timestamptz not null default fanfare.now(),
    check ((event_types is null) <> (document is null))
  ) with (fillfactor = 70)`,
  // serves: an account's webhooks, in the list and in the match
  sql`create index webhook_account on fanfare.webhook (account_id, id)`,
  // serves: the backfill's look for work
  sql`create index webhook_backfill on fanfare.webhook (id) where backfilled_to < live_after`,

  sql`create table fanfare.webhook_secret (
    id bigint generated always as identity primary key,
    account_id text collate "C" not null,
    webhook_id text collate "C" not null references fanfare.webhook on delete cascade,
    sealed text not null,
    created_at timestamptz not null default fanfare.now(),
    expires_at timestamptz
  )`,
  // serves: the secrets that sign for a webhook
  sql`create index webhook_secret_webhook on fanfare.webhook_secret (webhook_id, id)`,

  // Open deliveries only: narrow, half-filled pages, and a claim touches no indexed column, so that it stays on its page
  // (43.9k rows/s against 29.2k of one wide table with a status). What is finished moves to delivery_done.
  sql`create table fanfare.delivery (
    account_id text collate "C" not null,
    id text collate "C" not null,
    webhook_id text collate "C" not null,
    seq bigint not null,
    position bigint not null,
    event_id text collate "C",
    next_at timestamptz not null,
    lease_until timestamptz,
    generation int not null default 0,
    step smallint not null default 0,
    attempts int not null default 0,
    body_key text collate "C",
    born_at timestamptz not null,
    primary key (account_id, id)
  ) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0)`,
  // serves: the claim's window of the first due ones of a webhook, in the order of the log
  sql`create index delivery_due on fanfare.delivery (webhook_id, next_at, position)`,
  // serves: the deliveries of an event
  sql`create index delivery_event on fanfare.delivery (event_id)`,

  // generation goes on where a delivery is opened again, so that no claim of its earlier life is like one of the next.
  // A delivery's record and its attempts lie in the partition of its birth, which its id tells: one partition to look
  // into, and to drop.
  sql`create table fanfare.delivery_done (
    account_id text collate "C" not null,
    id text collate "C" not null,
    webhook_id text collate "C" not null,
    seq bigint not null,
    position bigint not null,
    event_id text collate "C",
    status text not null,
    error text,
    generation int not null,
    attempts int not null,
    body_key text collate "C",
    born_at timestamptz not null,
    finished_at timestamptz not null,
    primary key (account_id, id, born_at)
  ) partition by range (born_at)`,
  // serves: the deliveries of a webhook
  sql`create index delivery_done_webhook on fanfare.delivery_done (webhook_id, id)`,
  // serves: the deliveries of an event
  sql`create index delivery_done_event on fanfare.delivery_done (event_id)`,
  // serves: the list of what did not arrive
  sql`create index delivery_done_failed on fanfare.delivery_done (account_id, id) where status <> 'SUCCEEDED'`,
  sql`create table fanfare.delivery_done_default partition of fanfare.delivery_done default`,

  sql`create table fanfare.attempt (
    account_id text collate "C" not null,
    delivery_id text collate "C" not null,
    number int not null,
    started_at timestamptz not null,
    duration_ms int not null,
    status_code int,
    error_class text,
    reason text,
    response_headers jsonb not null,
    response_body text not null,
    is_truncated boolean not null,
    remote_address text,
    next_at timestamptz,
    born_at timestamptz not null,
    primary key (account_id, delivery_id, number, born_at)
  ) partition by range (born_at)`,
  sql`create table fanfare.attempt_default partition of fanfare.attempt default`,

  // What is sent, once for equal (event, document, grants): key is their hash. seq 0 is a ping.
  sql`create table fanfare.body (
    seq bigint not null,
    key text collate "C" not null,
    occurred_at timestamptz not null,
    body text not null,
    primary key (seq, key, occurred_at)
  ) partition by range (occurred_at)`,
  sql`create table fanfare.body_default partition of fanfare.body default`,

  // It finds the three tables above by itself.
  sql`select fanfare.make_partitions((fanfare.now() at time zone 'UTC')::date + 14)`,

  // now(), which is stable, not clock_timestamp(): a volatile column would keep the planner from merging the two
  // branches by their indexes.
  sql`create view fanfare.delivery_record as
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position,
           case when d.lease_until > now() then 'SENDING'
                when (select w.status = 'DISABLED' or w.parked_reason is not null from fanfare.webhook w where w.id = d.webhook_id) then 'PARKED'
                else 'PENDING' end as status,
           null::text as error, d.attempts, d.seq, d.body_key, d.born_at, d.next_at, null::timestamptz as finished_at
    from fanfare.delivery d
    union all
    select d.account_id, d.id, d.webhook_id, d.event_id, d.position, d.status, d.error, d.attempts, d.seq, d.body_key, d.born_at, null, d.finished_at
    from fanfare.delivery_done d`,
];

const matching = [
  // The algebra of src/outbox/filter.ts; a test compares both.
  sql`create function fanfare.filter_holds(f jsonb, name text, subject_id text, related text[], changed text[])
  returns boolean language sql immutable as $$
    select (not f ? 'types' or f->'types' ? name) and (not f ? 'subjects' or f->'subjects' ? subject_id)
       and (not f ? 'related' or f->'related' ?| related) and (not f ? 'changed' or f->'changed' ?| changed)
  $$`,
  sql`create function fanfare.webhook_wants(w fanfare.webhook, name text, subject_id text, related text[], changed text[])
  returns boolean language sql stable as $$
    select (w.types is null or name = any(w.types)) and (w.subjects is null or subject_id = any(w.subjects))
       and (w.related is null or related && w.related) and (w.changed is null or changed && w.changed)
       and exists (select from fanfare.event_type t where t.name = webhook_wants.name and t.scope = any(w.scopes))
       and not exists (
         select from jsonb_array_elements(w.narrowing) as granted (f)
         where not fanfare.filter_holds(granted.f, webhook_wants.name, webhook_wants.subject_id, webhook_wants.related, webhook_wants.changed)
       )
  $$`,

  // Called by the stamp, after it has locked the heads of the accounts: whoever changes a webhook takes the same lock
  // first, so that an event is matched either by the old webhook or by the new, and none falls between.
  // next_at is the time of the stamp: the first attempts go out in the order of the log, also after a pause.
  sql`create or replace function fanfare.match_webhooks(p_seqs bigint[]) returns void language plpgsql as $$
    declare
      v_now timestamptz;
    begin
      if not exists (select from fanfare.webhook) then
        return;
      end if;
      v_now := date_trunc('milliseconds', fanfare.now());
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at)
      select l.account_id, fanfare.new_id('dlv', v_now), w.id, l.seq, l.position, e.id, l.stamped_at, v_now
      from unnest(p_seqs) as stamped (seq)
      join fanfare.log l on l.seq = stamped.seq
      join fanfare.webhook w on w.account_id = l.account_id
      join fanfare.event e on e.seq = l.seq
      where w.status <> 'DISABLED' and l.position > w.live_after
        and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed);
    end
  $$`,

  // One step over at most p_limit positions of one webhook that began in the past; gives how many, 0 if there is none.
  // For a disabled webhook none are born; once it is resumed its past is looked through from where it was left.
  sql`create function fanfare.backfill_webhooks(p_webhook_id text, p_limit int) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      w fanfare.webhook;
      v_to bigint;
      v_now timestamptz := date_trunc('milliseconds', fanfare.now());
    begin
      select * into w from fanfare.webhook
      where backfilled_to < live_after and status <> 'DISABLED' and (p_webhook_id is null or id = p_webhook_id)
      order by id limit 1 for update skip locked;
      if not found then
        return 0;
      end if;
      v_to := least(w.live_after, w.backfilled_to + p_limit);
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at)
      select l.account_id, fanfare.new_id('dlv', v_now), w.id, l.seq, l.position, e.id, l.stamped_at, v_now
      from fanfare.log l join fanfare.event e on e.seq = l.seq
      where l.account_id = w.account_id and l.position > w.backfilled_to and l.position <= v_to
        and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed);
      update fanfare.webhook set backfilled_to = v_to where id = w.id;
      return (v_to - w.backfilled_to)::int;
    end
  $$`,

  // Ends the webhook's open deliveries: all of them, or those whose event it no longer wants.
  sql`create function fanfare.cancel_deliveries(p_account_id text, p_webhook_id text, p_unwanted_only boolean, p_reason text)
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
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, 'CANCELLED', p_reason, g.generation, g.attempts, g.body_key, g.born_at, fanfare.now()
        from gone g returning 1
      )
      select count(*) into v_count from done;
      return v_count;
    end
  $$`,
];

const sending = [
  // For each webhook that may be sent to, the first p_cap due rows are its window, those in flight among them: so no
  // more than p_cap are under way over all processes ("cap minus those in flight" went to 32 of 8 with racing claims).
  // A webhook that keeps failing has a smaller window. The window is read without locks; the rows are locked, and their
  // conditions checked again, outside of it. Each webhook gets its first before any gets its second, and the last quarter
  // of an account's places, and p_reserved of the process's, are for first ones only: many that hang hold up no other.
  sql`create function fanfare.claim_deliveries(
    p_limit int, p_reserved int, p_lease interval, p_cap int, p_account_cap int, p_busy_accounts text[], p_busy_counts int[]
  ) returns table (
    account_id text, id text, webhook_id text, seq bigint, "position" bigint, event_id text, generation int, step smallint,
    attempts int, body_key text, born_at timestamptz
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
        select w.id, case when w.failures = 0 then p_cap when w.failures < 5 then greatest(p_cap / 2, 1) else 1 end as cap
        from with_work join fanfare.webhook w on w.id = with_work.id
        where w.status = 'ACTIVE' and w.parked_reason is null
      ), front as (
        select f.* from open cross join lateral (
          select d.account_id, d.id, d.next_at, d.lease_until, row_number() over (order by d.next_at, d.position) as rank
          from fanfare.delivery d where d.webhook_id = open.id and d.next_at <= v_now
          order by d.next_at, d.position limit open.cap
        ) f where f.lease_until is null or f.lease_until <= clock_timestamp()
      ), fair as (
        select f.account_id, f.id, f.rank, f.next_at,
               row_number() over (partition by f.account_id order by f.rank, f.next_at)
                 + coalesce((select b.count from unnest(p_busy_accounts, p_busy_counts) as b (account_id, count) where b.account_id = f.account_id), 0)
                 as account_rank,
               row_number() over (order by f.rank, f.next_at) as overall_rank
        from front f
      ), locked as (
        select d.account_id, d.id from fair f
        join fanfare.delivery d on d.account_id = f.account_id and d.id = f.id
        where f.account_rank <= case when f.rank = 1 then p_account_cap else p_account_cap - p_account_cap / 4 end
          and (f.rank = 1 or f.overall_rank <= p_limit - p_reserved)
          and d.next_at <= v_now and (d.lease_until is null or d.lease_until <= clock_timestamp())
        order by f.rank, f.next_at limit p_limit for update of d skip locked
      )
      update fanfare.delivery d set lease_until = clock_timestamp() + p_lease, generation = d.generation + 1
      from locked where d.account_id = locked.account_id and d.id = locked.id
      returning d.account_id, d.id, d.webhook_id, d.seq, d.position, d.event_id, d.generation, d.step, d.attempts, d.body_key, d.born_at;
    end
  $$`,

  // Each result counts only under the generation of its claim, and only until the claim has ended: a batch that is written
  // again because the answer to its commit was lost counts once. status PENDING schedules the next attempt, RELEASED hands
  // the claim back as if it had not been made, all others end the delivery. Gives those that counted.
  sql`create function fanfare.finish_deliveries(p_results jsonb) returns table (id text, status text, next_at timestamptz)
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
            step = d.step + (m.started_at is not null)::int, attempts = d.attempts + (m.started_at is not null)::int
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
