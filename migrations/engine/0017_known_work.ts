import { type Kysely, sql } from 'kysely';

/** Claims of webhooks that are known to have more, without a walk over all that have something; births matched once. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...sending, ...births]) await statement.execute(db);
}

const sending = [
  sql`drop function fanfare.claim_deliveries`,
  // As before, but p_only names the webhooks to claim of: those of which the claimant knows that they have more. null: all that have
  // something. To find these is a step for each, also for those that are held or hang: 12 ms for a thousand.
  // Which accounts are full follows from what is under way for them.
  sql`create function fanfare.claim_deliveries(
    p_holder text, p_only text[], p_limit int, p_ahead_limit int, p_reserved int, p_lease interval, p_cap int, p_ahead jsonb,
    p_account_cap int, p_busy_accounts text[], p_busy_counts int[], p_idle text[]
  ) returns table (
    account_id text, id text, webhook_id text, seq bigint, "position" bigint, event_id text, generation int, step smallint,
    attempts int, since_first_ms bigint, body_key text, run text, subject text
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_now timestamptz;
      v_row record;
      v_taken text[] := '{}';
      v_full text[] := array(
        select b.account_id from unnest(p_busy_accounts, p_busy_counts) as b (account_id, count) where b.count >= p_account_cap
      );
    begin
      if not exists (select from fanfare.delivery) then
        delete from fanfare.turn t where t.webhook_id = any(p_idle) and t.holder = p_holder;
        return;
      end if;
      v_now := fanfare.now();
      for v_row in with recursive walked (id) as (
        (select d.webhook_id from fanfare.delivery d where p_only is null order by d.webhook_id limit 1)
        union all
        select (select d.webhook_id from fanfare.delivery d where d.webhook_id > last.id order by d.webhook_id limit 1)
        from walked last where last.id is not null
      ), with_work (id) as (
        select walked.id from walked
        union all
        select asked.id from unnest(p_only) as asked (id)
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
          and coalesce((p_ahead->>w.id)::int, 1) > 0 and not w.account_id = any(v_full)
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
      )
      -- from what was chosen to its rows, each by its key: by a join whose plan was made while there were none, all were read for each
      select d.account_id, d.id, d.webhook_id, (select w.rate_limit is not null from fanfare.webhook w where w.id = d.webhook_id) as is_paced
      from turned t join chosen c on c.webhook_id = t.webhook_id
      cross join lateral (
        select o.account_id, o.id, o.webhook_id from fanfare.delivery o
        where o.account_id = c.account_id and o.id = c.id and o.next_at <= v_now and (o.lease_until is null or o.lease_until <= clock_timestamp())
        for update skip locked
      ) d
      loop
        update fanfare.delivery d set lease_until = clock_timestamp() + p_lease, generation = d.generation + 1
        where d.account_id = v_row.account_id and d.id = v_row.id
        returning d.account_id, d.id, d.webhook_id, d.seq, d.position, d.event_id, d.generation, d.step, d.attempts,
          coalesce((extract(epoch from v_now - d.began_at) * 1000)::bigint, 0), d.body_key, d.run, d.subject
        into account_id, id, webhook_id, seq, "position", event_id, generation, step, attempts, since_first_ms, body_key, run, subject;
        if v_row.is_paced then
          v_taken := v_taken || v_row.webhook_id;
        end if;
        return next;
      end loop;
      if v_taken <> '{}' then
        update fanfare.webhook w set rate_next_at = fanfare.rate_from(w, v_now) + t.count / w.rate_limit * interval '1 second'
        from (select u.webhook_id, count(*) as count from unnest(v_taken) as u (webhook_id) group by u.webhook_id) t
        where w.id = t.webhook_id;
      end if;
    end
  $$`,
  sql`create or replace function fanfare.store_bodies(
    p_seqs bigint[], p_keys text[], p_occurred timestamptz[], p_bodies text[],
    p_account_ids text[], p_ids text[], p_generations int[], p_tied_keys text[]
  ) returns table (id text, body text) language plpgsql set enable_seqscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_fresh int;
      v_seq bigint;
      v_from timestamptz;
      v_to timestamptz;
    begin
      select min(o), max(o) into v_from, v_to from unnest(p_occurred) o;
      insert into fanfare.body (seq, key, occurred_at, body)
      select b.seq, b.key, b.occurred_at, b.body
      from unnest(p_seqs, p_keys, p_occurred, p_bodies) as b (seq, key, occurred_at, body) order by b.seq, b.key
      on conflict do nothing;
      get diagnostics v_fresh = row_count;
      -- one by one, each by its key: by a plan that was made while there were no deliveries, all that were due were read for each
      for v_at in 1 .. cardinality(p_ids) loop
        update fanfare.delivery d set body_key = p_tied_keys[v_at]
        where d.account_id = p_account_ids[v_at] and d.id = p_ids[v_at] and d.generation = p_generations[v_at] and d.lease_until is not null
        returning d.id, d.seq into id, v_seq;
        if found then
          body := case when v_fresh < cardinality(p_seqs) then (
            select b.body from fanfare.body b where b.seq = v_seq and b.key = p_tied_keys[v_at] and b.occurred_at between v_from and v_to
          ) end;
          return next;
        end if;
      end loop;
    end
  $$`,
  // As before, but from the results to their rows, each by its key: by a join whose plan was made
  // while there were no deliveries, all that were due were read for each result, and 460 took 4 s.
  sql`create or replace function fanfare.finish_deliveries(p_results jsonb) returns table (id text, status text, next_at timestamptz)
  language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_now timestamptz := fanfare.now();
      v_webhook_ids text[];
      v_subjects text[];
      v_row record;
    begin
      select array_agg(r.webhook_id), array_agg(r.subject) into v_webhook_ids, v_subjects
      from jsonb_to_recordset(p_results) as r (webhook_id text, subject text, status text)
      where r.subject is not null and r.status not in ('PENDING', 'RELEASED');
      if v_subjects is not null then
        perform fanfare.lock_subjects(v_webhook_ids, v_subjects);
      end if;
      for v_row in
        with result as (
          select r.* from jsonb_to_recordset(p_results) as r (
            account_id text, id text, generation int, status text, delay_ms bigint, error text, started_at timestamptz, duration_ms int,
            status_code int, error_class text, reason text, response_headers jsonb, response_body text, is_truncated boolean, remote_address text,
            attempt_id text, request_headers text, body_hash text, is_reused boolean, dns_ms int, connect_ms int, tls_ms int, first_byte_ms int)
          order by r.account_id, r.id
        ), mine as (
          select r.*, d.webhook_id, d.seq, d.position, d.event_id, d.attempts, d.body_key, d.born_at, d.run,
                 (r.started_at is not null)::int as made,
                 case when r.status = 'PENDING' then v_now + r.delay_ms * interval '1 ms' end as next_at,
                 r.status = 'EXHAUSTED' and d.subject is not null
                   and (select w.on_exhausted = 'BLOCK' from fanfare.webhook w where w.id = d.webhook_id) as blocks
          from result r cross join lateral (
            select o.* from fanfare.delivery o
            where o.account_id = r.account_id and o.id = r.id and o.generation = r.generation and o.lease_until is not null
            for update
          ) d
        ), done as (
          insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
          select m.account_id, m.id, m.webhook_id, m.seq, m.position, m.event_id, m.status, m.error, m.generation, m.attempts + m.made, m.body_key, m.born_at, v_now, m.run
          from mine m where m.status not in ('PENDING', 'RELEASED') and not m.blocks
        ), evidence as (
          insert into fanfare.attempt (account_id, delivery_id, number, started_at, duration_ms, status_code, error_class, reason,
                                       response_headers, response_body, is_truncated, remote_address, next_at, born_at,
                                       id, webhook_id, request_headers, body_hash, is_reused, dns_ms, connect_ms, tls_ms, first_byte_ms)
          select m.account_id, m.id, m.attempts + 1, m.started_at, m.duration_ms, m.status_code, m.error_class, m.reason,
                 m.response_headers, m.response_body, m.is_truncated, m.remote_address, m.next_at, m.born_at,
                 m.attempt_id, m.webhook_id, m.request_headers, decode(m.body_hash, 'hex'), m.is_reused, m.dns_ms, m.connect_ms, m.tls_ms, m.first_byte_ms
          from mine m where m.started_at is not null
        )
        select m.account_id, m.id, m.status, m.next_at, m.blocks, m.made, m.duration_ms from mine m
      loop
        if v_row.status in ('PENDING', 'RELEASED') or v_row.blocks then
          update fanfare.delivery d
          set lease_until = null, next_at = case when v_row.blocks then 'infinity' else coalesce(v_row.next_at, d.next_at) end, is_blocking = v_row.blocks,
              step = d.step + v_row.made, attempts = d.attempts + v_row.made,
              began_at = coalesce(d.began_at, v_now - v_row.duration_ms * interval '1 ms')
          where d.account_id = v_row.account_id and d.id = v_row.id;
        else
          delete from fanfare.delivery d where d.account_id = v_row.account_id and d.id = v_row.id;
        end if;
        id := v_row.id;
        status := v_row.status;
        next_at := v_row.next_at;
        return next;
      end loop;
      if v_subjects is not null then
        perform fanfare.wake_subjects(v_webhook_ids, v_subjects);
      end if;
    end
  $$`,
];

const births = [
  // As before, but those that keep an order are locked and woken as they were born, and not matched for it a second time. From what is
  // stamped to the events by their keys, and from them to the webhooks, in the only order that this can be planned in: by a
  // plan that was made while the day's partitions were empty, the account's log was read for each event, at 1 to 3 ms among 20,000.
  sql`drop function fanfare.match_webhooks(bigint[], timestamptz, timestamptz, timestamptz)`,
  sql`create function fanfare.match_webhooks(
    p_seqs bigint[], p_account_ids text[], p_positions bigint[], p_at timestamptz, p_from timestamptz, p_to timestamptz
  ) returns void language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off
  set plan_cache_mode = force_generic_plan as $$
    declare
      v_now timestamptz;
      v_webhook_ids text[];
      v_subjects text[];
    begin
      if not exists (select from fanfare.webhook) then
        return;
      end if;
      v_now := date_trunc('milliseconds', fanfare.now());
      with born as (
        insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at, subject)
        select stamped.account_id, fanfare.new_id('dlv', v_now), (asker.w).id, stamped.seq, stamped.position, e.id,
               case when (asker.w).ordering = 'UNORDERED' then p_at else 'infinity' end, v_now,
               case when (asker.w).ordering <> 'UNORDERED' then e.subject_type || ' ' || e.subject_id end
        from unnest(p_seqs, p_account_ids, p_positions) as stamped (seq, account_id, position)
        cross join lateral (
          select e.id, e.name, e.subject_type, e.subject_id, e.related, e.changed from fanfare.event e
          where e.seq = stamped.seq and e.occurred_at between p_from and p_to limit 1
        ) e
        cross join lateral (
          select w from fanfare.webhook w where w.account_id = stamped.account_id and w.live_after < stamped.position offset 0
        ) asker
        where fanfare.webhook_asks(asker.w, e.name, e.subject_id, e.related, e.changed)
          and exists (select from fanfare.event_type t where t.name = e.name and t.scope = any((asker.w).scopes))
          and ((asker.w).narrowing = '[]' or fanfare.is_within_grants((asker.w).narrowing, e.name, e.subject_id, e.related, e.changed))
        returning webhook_id, subject
      )
      select array_agg(b.webhook_id), array_agg(b.subject) into v_webhook_ids, v_subjects from born b where b.subject is not null;
      if v_subjects is not null then
        perform fanfare.lock_subjects(v_webhook_ids, v_subjects);
        perform fanfare.wake_subjects(v_webhook_ids, v_subjects);
      end if;
    end
  $$`,
  // As before, each row once.
  sql`create or replace function fanfare.reorder_webhook(p_webhook_id text) returns void language plpgsql as $$
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
        update fanfare.delivery d set subject = null, next_at = case when d.next_at = 'infinity' then fanfare.now() else d.next_at end
        where d.webhook_id = w.id and d.subject is not null;
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
  // As before, but what is stamped is handed to the match as it is known here.
  sql`create or replace function fanfare.stamp(
    p_shards smallint[], p_generations bigint[], p_seen bigint[], p_invalid bigint[], p_reasons text[], p_limit int
  ) returns table (
    shard smallint, shard_offset bigint, "position" bigint, seq bigint, id text, account_id text, name text, payload_version int,
    occurred_at timestamptz, subject_type text, subject_id text, subject_version int, changed text[], related text[],
    payload jsonb, actor text, request_id text, caused_by text, rest_unchecked boolean
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off
  set plan_cache_mode = force_generic_plan as $$
    #variable_conflict use_column
    declare
      v_ready smallint[];
      v_held smallint[];
      v_at timestamptz;
      v_shards smallint[];
      v_offsets bigint[];
      v_positions bigint[];
      v_seqs bigint[];
      v_account_ids text[];
      v_from timestamptz;
      v_to timestamptz;
      v_rest boolean;
    begin
      -- nothing is stamped past a shard's first event; and a poll that can stamp nothing takes no lock, and so writes no WAL
      -- (939 bytes otherwise)
      select array_agg(f.shard) filter (where f.seen), coalesce(bool_or(not f.seen), false) into v_ready, v_rest
      from (
        select o.shard, o.checked or o.seq = any(p_seen) or o.seq = any(p_invalid) as seen from unnest(p_shards) as held (shard)
        cross join lateral (
          select o.shard, o.seq, o.checked from fanfare.outbox o where o.shard = held.shard order by o.seq limit 1
        ) o
      ) f;
      if v_ready is null then
        return;
      end if;

      -- the fence: a statement of its own, so that the next one's snapshot is taken after the lock was got
      select array_agg(s.id), greatest(fanfare.now(), max(s.stamped_at)) into v_held, v_at
      from (
        select s.id, s.stamped_at from fanfare.shard s
        join unnest(p_shards, p_generations) as held (id, generation) on held.id = s.id
        where s.id = any(v_ready) and s.generation = held.generation and s.lease_until > clock_timestamp()
        order by s.id for update of s
      ) s;
      if v_held is null then
        return;
      end if;

      with candidate as (
        -- lateral: reads p_limit rows of each shard, where "shard = any(…)" would sort the whole backlog for each batch
        select o.ctid as place, o.shard, o.seq, o.checked or o.seq = any(p_seen) or o.seq = any(p_invalid) as seen
        from unnest(v_held) as held (shard)
        cross join lateral (
          select o.ctid, o.shard, o.seq, o.checked from fanfare.outbox o where o.shard = held.shard order by o.seq limit p_limit
        ) o
        order by o.seq limit p_limit
      ), cut as (
        select c.shard, min(c.seq) as seq from candidate c where not c.seen group by c.shard
      ), gone as (
        delete from fanfare.outbox o using candidate c
        -- by its place, which nobody changes: by its key, analyzed while it was empty, the whole outbox was read for each row
        where o.ctid = c.place
          and not exists (select from cut where cut.shard = c.shard and cut.seq <= c.seq)
        returning o.shard, o.seq, coalesce(o.account_id, (fanfare.event_of(o.seq)).account_id) as account_id,
                  coalesce(o.occurred_at, (fanfare.event_of(o.seq)).occurred_at) as occurred_at
      ), numbered as (
        select g.shard, g.seq, g.account_id, g.occurred_at,
               row_number() over (partition by g.shard order by g.seq) as shard_number,
               row_number() over (partition by g.account_id order by g.seq) as account_number
        from gone g
        where not g.seq = any(p_invalid)
      ), parked as (
        insert into fanfare.parked (seq, event_id, account_id, position, name, reason)
        select g.seq, e.id, g.account_id,
               coalesce((select h.position from fanfare.head h where h.account_id = g.account_id), 0)
                 + (select count(*) from numbered n where n.account_id = g.account_id and n.seq < g.seq),
               e.name, coalesce(bad.reason, 'invalid')
        from unnest(p_invalid, p_reasons) as bad (seq, reason)
        join gone g on g.seq = bad.seq
        cross join lateral fanfare.event_of(g.seq) e
      ), shard_head as (
        update fanfare.shard s set head = s.head + n.count, stamped_at = v_at
        from (select n.shard, count(*) from numbered n group by n.shard) n
        where s.id = n.shard
        returning s.id as shard, s.head - n.count as before
      ), account_count as (
        select n.account_id, count(*) from numbered n group by n.account_id
      ), account_head as (
        insert into fanfare.head as h (account_id, position)
        select c.account_id, c.count from account_count c
        on conflict (account_id) do update set position = h.position + excluded.position
        returning h.account_id, h.position
      ), stamped as (
        insert into fanfare.log (shard, shard_offset, account_id, position, seq, stamped_at)
        select n.shard, sh.before + n.shard_number, n.account_id, ah.position - ac.count + n.account_number, n.seq, v_at
        from numbered n
        join shard_head sh on sh.shard = n.shard
        join account_head ah on ah.account_id = n.account_id
        join account_count ac on ac.account_id = n.account_id
        returning shard, shard_offset, position, seq, account_id
      )
      select array_agg(s.shard), array_agg(s.shard_offset), array_agg(s.position), array_agg(s.seq), array_agg(s.account_id), min(n.occurred_at), max(n.occurred_at),
             v_rest or exists (select from cut)
      into v_shards, v_offsets, v_positions, v_seqs, v_account_ids, v_from, v_to, v_rest from stamped s join numbered n on n.seq = s.seq;
      if v_seqs is null then
        return;
      end if;

      perform fanfare.match_webhooks(v_seqs, v_account_ids, v_positions, v_at, v_from, v_to);

      -- not read back from the log: ordered by the offset, that walked through the whole of it
      return query
      select l.shard, l.shard_offset, l.position, e.seq, e.id, e.account_id, e.name, e.payload_version, e.occurred_at,
             e.subject_type, e.subject_id, e.subject_version, e.changed, e.related, e.payload, e.actor, e.request_id, e.caused_by, v_rest
      from unnest(v_shards, v_offsets, v_positions, v_seqs) as l (shard, shard_offset, position, seq)
      cross join lateral (
        select e.* from fanfare.event e where e.seq = l.seq and e.occurred_at between v_from and v_to limit 1
      ) e
      order by l.shard, l.shard_offset;
    end
  $$`,
  // As before, but by the days of the events: without them, each was looked for in all partitions, at 43 µs.
  sql`create or replace function fanfare.unchecked_events(p_shards smallint[], p_limit int)
  returns table (shard smallint, seq bigint, name text, payload jsonb, payload_version int) language plpgsql stable
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_shards smallint[];
      v_seqs bigint[];
      v_from timestamptz;
      v_to timestamptz;
    begin
      select array_agg(o.shard), array_agg(o.seq), min(coalesce(o.occurred_at, '-infinity')), max(coalesce(o.occurred_at, 'infinity'))
      into v_shards, v_seqs, v_from, v_to
      from (
        select o.* from unnest(p_shards) as held (shard)
        cross join lateral (
          select o.shard, o.seq, o.occurred_at from fanfare.outbox o where o.shard = held.shard and not o.checked order by o.seq limit p_limit
        ) o
        order by o.seq limit p_limit
      ) o;
      if v_seqs is null then
        return;
      end if;
      return query
      select o.shard, o.seq, e.name, e.payload, e.payload_version
      from unnest(v_shards, v_seqs) as o (shard, seq)
      cross join lateral (
        select e.name, e.payload, e.payload_version from fanfare.event e where e.seq = o.seq and e.occurred_at between v_from and v_to limit 1
      ) e
      order by o.seq;
    end
  $$`,
];
