import { type Kysely, sql } from 'kysely';

/** Open deliveries are cancelled by one function, and those that were cancelled with a run are found among all that the run has sent. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...indexes, ...cancelling, ...stepping]) await statement.execute(db);
}

const indexes = [
  // serves: the resume, which opens again what was cancelled; by the run alone all that it had sent was read, a million for a thousand
  sql`create index delivery_done_cancelled on fanfare.delivery_done (run, id) where run is not null and status = 'CANCELLED'`,
];

const cancelling = [
  // Records open deliveries as cancelled. The caller has locked them, and a row keeps its place as long as it is locked. A statement of its
  // own, whose snapshot is taken after the locks were got.
  sql`create function fanfare.cancel_locked(p_places tid[], p_reason text) returns int language plpgsql
  set enable_seqscan = off set jit = off as $$
    declare
      v_now timestamptz := fanfare.now();
      v_count int;
    begin
      with gone as (
        delete from fanfare.delivery d where d.ctid = any(p_places) returning d.*
      ), done as (
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, 'CANCELLED', p_reason, g.generation, g.attempts, g.body_key, g.born_at, v_now, g.run
        from gone g returning 1
      )
      select count(*) into v_count from done;
      return v_count;
    end
  $$`,
  // Of a run, but for those that are being sent: they end as they end, so that none arrives that counts as cancelled. Found by the run alone,
  // whose index it is: a run is of one account.
  sql`create or replace function fanfare.cancel_run(p_account_id text, p_run text, p_reason text) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_places tid[];
    begin
      with waiting as materialized (
        select d.ctid as place, d.account_id from fanfare.delivery d
        where d.run = p_run and (d.lease_until is null or d.lease_until <= clock_timestamp())
        order by d.id for update of d skip locked
      )
      select array_agg(w.place) into v_places from waiting w where w.account_id = p_account_id;
      return fanfare.cancel_locked(v_places, p_reason);
    end
  $$`,
  // Of a deleted webhook, or of whichever is next. Gives how many it has cancelled: as many as it may, as long as there are more.
  sql`create or replace function fanfare.cancel_deleted(p_webhook_id text, p_reason text, p_limit int) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      w fanfare.deleted_webhook;
      v_places tid[];
      v_count int;
    begin
      select * into w from fanfare.deleted_webhook
      where p_webhook_id is null or id = p_webhook_id order by id limit 1 for update skip locked;
      if not found then
        return 0;
      end if;
      with open as materialized (
        select d.ctid as place, d.account_id from fanfare.delivery d
        where d.webhook_id = w.id order by d.next_at, d.position limit p_limit for update of d skip locked
      )
      select array_agg(o.place) into v_places from open o where o.account_id = w.account_id;
      v_count := fanfare.cancel_locked(v_places, p_reason);
      if not exists (select from fanfare.delivery d where d.webhook_id = w.id) then
        delete from fanfare.deleted_webhook where id = w.id;
      end if;
      return v_count;
    end
  $$`,
  // Of what is open what the webhook asks for no more; found by the webhook, not by its account, which may have many more.
  sql`create or replace function fanfare.cancel_unwanted(p_account_id text, p_webhook_id text, p_reason text) returns int language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    declare
      v_places tid[];
    begin
      with unwanted as materialized (
        select d.ctid as place, d.account_id from fanfare.delivery d
        where d.webhook_id = p_webhook_id and d.seq > 0 and not exists (
          select from fanfare.event e join fanfare.webhook w on w.id = d.webhook_id
          where e.seq = d.seq and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed))
        order by d.id for update of d
      )
      select array_agg(u.place) into v_places from unwanted u where u.account_id = p_account_id;
      return fanfare.cancel_locked(v_places, p_reason);
    end
  $$`,
];

const stepping = [
  // As before, but by the place in the log's order, by which no sort is needed: so it ends with the last that there is room for. Sorted, all
  // of them were looked at for each step, 2.6 for each birth. And an earlier success is not looked for in the days to come: 83,000 pages
  // a step among a million, 100 ms. A clock of the database that was set back by more than a day hides it.
  sql`create or replace function fanfare.step_replay(p_replay_id text, p_positions int) returns table (
    id text, account_id text, webhook_id text, status text, looked bigint, born int, has_finished boolean
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      c_least constant int := 16;
      c_most constant int := 1000;
      c_open constant int := 10000;
      r fanfare.replay;
      w fanfare.webhook;
      v_now timestamptz := fanfare.now();
      v_seconds double precision;
      v_fresh int;
      v_open int;
      v_added bigint := 0;
      v_free int := 0;
      v_from timestamptz;
      v_to bigint;
      v_seqs bigint[];
      v_positions bigint[];
      v_first timestamptz;
      v_last timestamptz;
      v_born int := 0;
      v_looked_to bigint;
      v_is_out boolean;
    begin
      select t.* into r from fanfare.replay t
      where t.finished_at is null and (t.next_step_at <= v_now or t.id = p_replay_id) and (p_replay_id is null or t.id = p_replay_id)
      order by t.next_step_at limit 1 for update skip locked;
      if not found then
        return;
      end if;
      v_looked_to := r.looked_to;
      select t.* into w from fanfare.webhook t where t.id = r.webhook_id for no key update skip locked;
      if w.id is null and exists (select from fanfare.webhook t where t.id = r.webhook_id) then
        update fanfare.replay t set next_step_at = v_now + interval '20 ms' where t.id = r.id;
        return query select r.id, r.account_id, r.webhook_id, r.status, 0::bigint, 0, false;
        return;
      end if;
      if w.id is null and r.status = 'RUNNING' then
        r.status := 'CANCELLED';
        r.reason := 'the webhook was deleted';
      end if;

      -- before the tally is read: what is not open any more is in it
      select count(*) filter (where d.step = 0), count(*) into v_fresh, v_open from fanfare.delivery d where d.run = r.id;
      with gone as (
        delete from fanfare.replay_tally t where t.replay_id = r.id returning t.status, t.count
      ), added as (
        select coalesce(sum(g.count) filter (where g.status = 'SUCCEEDED'), 0) as succeeded,
               coalesce(sum(g.count) filter (where g.status = 'EXHAUSTED'), 0) as exhausted,
               coalesce(sum(g.count) filter (where g.status = 'CANCELLED'), 0) as cancelled,
               coalesce(sum(g.count) filter (where g.status = 'RENDER_FAILED'), 0) as render_failed
        from gone g
      )
      select r.succeeded + a.succeeded, r.exhausted + a.exhausted, r.cancelled + a.cancelled, r.render_failed + a.render_failed,
             a.succeeded + a.exhausted + a.cancelled + a.render_failed
      into r.succeeded, r.exhausted, r.cancelled, r.render_failed, v_added from added a;

      if r.status = 'CANCELLED' then
        v_added := v_added + fanfare.cancel_run(r.account_id, r.id, r.reason);
      else
        v_seconds := extract(epoch from v_now - r.reckoned_at);
        if v_seconds >= 0.1 then
          r.room := case when v_fresh = 0 then least(r.room * 2, c_most)
                         else greatest(r.room / 2, least(r.room * 2, ceil((r.given - v_fresh) / v_seconds)), c_least) end;
          r.given := v_fresh;
          r.reckoned_at := v_now;
        end if;
        v_free := least(r.room, c_most) - v_fresh;
        -- not by ones and twos: each time costs as much
        if v_free * 2 < r.room then
          v_free := 0;
        end if;
        if r.rate_limit is not null then
          -- as much of the rate as is left, of which a second's is kept for later, or one request's
          v_from := greatest(r.paced_to, v_now - (greatest(1, 1 / r.rate_limit) + 0.00001) * interval '1 second');
          v_free := least(floor(r.rate_limit * extract(epoch from v_now - v_from)), greatest(ceil(r.rate_limit), 1) - v_fresh, c_most - v_fresh);
        end if;
        v_free := greatest(least(v_free, c_open - v_open), 0);
      end if;

      -- not many more than there is room for: what is read of the log and not looked at is read again
      v_to := least(r.to_position, r.looked_to + least(p_positions, greatest(v_free * 4, 256)));
      -- what the webhook's own look back has yet to bring forth is not missing
      if r.missing and w.backfilled_to < w.live_after then
        v_to := least(v_to, w.backfilled_to);
      end if;
      if v_free > 0 and v_to > r.looked_to then
        select array_agg(l.seq order by l.position), array_agg(l.position order by l.position), min(l.stamped_at), max(l.stamped_at)
        into v_seqs, v_positions, v_first, v_last
        from fanfare.log l where l.account_id = r.account_id and l.position > r.looked_to and l.position <= v_to;

        -- an event is looked for in the days before its stamp, and only if it is not there in all others
        with candidate as (
          select u.position, u.seq, e.id from unnest(v_seqs, v_positions) with ordinality as u (seq, position, place)
          cross join lateral (
            select n.* from (
              select e.id, e.name, e.subject_id, e.related, e.changed from fanfare.event e
              where e.seq = u.seq and e.occurred_at between v_first - interval '1 day' and v_last + interval '1 hour'
              union all
              select e.id, e.name, e.subject_id, e.related, e.changed from fanfare.event e where e.seq = u.seq
            ) n limit 1
          ) e
          where fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed)
            and fanfare.filter_holds(r.filter, e.name, e.subject_id, e.related, e.changed)
            -- as values: of an exists, all of the webhook's deliveries may be read once for each step; and by the event, never by the
            -- webhook, which has a million: a plan that was made before it had many would read them for each event
            and (not r.missing or coalesce(
              (select 1 from fanfare.delivery d where d.event_id = e.id and d.webhook_id || '' = w.id and not d.is_blocking limit 1),
              (select 1 from fanfare.delivery_done d where d.event_id = e.id and d.webhook_id || '' = w.id and d.status = 'SUCCEEDED'
               and d.born_at between v_first - interval '1 hour' and v_now + interval '1 day' limit 1)) is null)
          order by u.place limit v_free
        ), born as (
          insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at, run)
          select r.account_id, fanfare.new_id('dlv', v_now), w.id, c.seq, c.position, c.id, v_now, date_trunc('milliseconds', v_now), r.id
          from candidate c
          returning position
        )
        select count(*), case when count(*) < v_free then v_to else max(b.position) end into v_born, v_looked_to from born b;
        r.expired := r.expired + v_looked_to - r.looked_to - (select count(*) from unnest(v_positions) as p (position) where p.position <= v_looked_to);
        r.created := r.created + v_born;
        r.given := r.given + v_born;
        r.paced_to := coalesce(v_from + v_born / r.rate_limit * interval '1 second', r.paced_to);
      end if;

      v_is_out := v_open + v_born = 0 and (r.status = 'CANCELLED' or v_looked_to >= r.to_position);
      r.rest_ms := case when v_looked_to > r.looked_to or v_added > 0 or r.status = 'CANCELLED' then 100 else least(greatest(r.rest_ms, 50) * 2, 5000) end;
      update fanfare.replay t
      set status = case when v_is_out and r.status = 'RUNNING' then 'DONE' else r.status end, reason = r.reason,
          looked_to = v_looked_to, created = r.created, succeeded = r.succeeded, exhausted = r.exhausted, render_failed = r.render_failed,
          -- with those that retention took
          cancelled = case when v_is_out then r.created - r.succeeded - r.exhausted - r.render_failed else r.cancelled end,
          expired = r.expired, room = r.room, given = r.given, reckoned_at = r.reckoned_at, paced_to = r.paced_to, rest_ms = r.rest_ms,
          next_step_at = case when v_looked_to > r.looked_to and v_born < v_free and v_looked_to < r.to_position then v_now
                              else v_now + r.rest_ms * interval '1 ms' end,
          finished_at = case when v_is_out then v_now end
      where t.id = r.id
      returning t.status into r.status;
      return query select r.id, r.account_id, r.webhook_id, r.status, v_looked_to - r.looked_to, v_born, v_is_out;
    end
  $$`,
];
