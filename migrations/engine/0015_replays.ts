import { type Kysely, sql } from 'kysely';

/** Replays: a range of the log on its way to a webhook once more, as deliveries of a run of their own. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...tables, ...counting, ...running]) await statement.execute(db);
}

const tables = [
  // From behind after_position up to to_position; looked_to: how far it has looked. One with a rate has used it up to paced_to.
  // The counts are of its deliveries by what became of them; what is not yet in them is in replay_tally. expired: positions that
  // retention took before they were looked at. room: how many may wait for their first attempt; given: how many did when room was last
  // reckoned, at reckoned_at, and were born since. finished_at: when nothing was left to see to; until then it is stepped.
  sql`create table fanfare.replay (
    id text collate "C" primary key,
    account_id text collate "C" not null references fanfare.account,
    webhook_id text collate "C" not null,
    status text not null default 'RUNNING' check (status in ('RUNNING', 'DONE', 'CANCELLED')),
    reason text,
    after_position bigint not null,
    to_position bigint not null,
    looked_to bigint not null,
    filter jsonb not null check (jsonb_typeof(filter) = 'object'),
    missing boolean not null,
    rate_limit double precision check (rate_limit > 0),
    paced_to timestamptz not null default fanfare.now(),
    created bigint not null default 0,
    succeeded bigint not null default 0,
    exhausted bigint not null default 0,
    cancelled bigint not null default 0,
    render_failed bigint not null default 0,
    expired bigint not null default 0,
    room int not null default 16,
    given int not null default 0,
    reckoned_at timestamptz not null default fanfare.now(),
    rest_ms int not null default 0,
    next_step_at timestamptz not null default fanfare.now(),
    created_by text,
    created_at timestamptz not null default fanfare.now(),
    finished_at timestamptz
  ) with (fillfactor = 50)`,
  // serves: an account's replays, and a webhook's
  sql`create index replay_account on fanfare.replay (account_id, id)`,
  // serves: the look for one to step; without next_step_at, so that a step stays on its page
  sql`create index replay_unfinished on fanfare.replay (id) where finished_at is null`,

  // What a statement has finished of a replay's deliveries. Rows of their own: counted in the replay's row, finishing would wait
  // for whoever steps or cancels it, who waits for the deliveries.
  sql`create table fanfare.replay_tally (
    replay_id text collate "C" not null,
    status text not null,
    count int not null
  ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)`,
  // serves: what has to be added to a replay's counts
  sql`create index replay_tally_replay on fanfare.replay_tally (replay_id)`,

  // serves: the open deliveries of a run; none of the others pay for it
  sql`create index delivery_run on fanfare.delivery (run, id) where run is not null`,
  // serves: the same of the finished ones
  sql`create index delivery_done_run on fanfare.delivery_done (run, id) where run is not null`,
];

const counting = [
  // For each statement that finishes deliveries, whichever it is.
  sql`create function fanfare.tally_replays() returns trigger language plpgsql as $$
    begin
      insert into fanfare.replay_tally (replay_id, status, count)
      select f.run, f.status, count(*) from finished f where starts_with(f.run, 'rpl_') group by f.run, f.status;
      return null;
    end
  $$`,
  sql`create trigger tally_replays after insert on fanfare.delivery_done
    referencing new table as finished for each statement execute function fanfare.tally_replays()`,

  sql`create view fanfare.replay_state as
    select r.id, r.account_id, r.webhook_id, r.status, r.reason, r.after_position, r.to_position, r.looked_to, r.filter, r.missing, r.rate_limit,
           r.created, r.succeeded + t.succeeded as succeeded, r.exhausted + t.exhausted as exhausted, r.cancelled + t.cancelled as cancelled,
           r.render_failed + t.render_failed as render_failed, r.expired, r.created_by, r.created_at, r.finished_at
    from fanfare.replay r cross join lateral (
      select coalesce(sum(t.count) filter (where t.status = 'SUCCEEDED'), 0)::bigint as succeeded,
             coalesce(sum(t.count) filter (where t.status = 'EXHAUSTED'), 0)::bigint as exhausted,
             coalesce(sum(t.count) filter (where t.status = 'CANCELLED'), 0)::bigint as cancelled,
             coalesce(sum(t.count) filter (where t.status = 'RENDER_FAILED'), 0)::bigint as render_failed
      from fanfare.replay_tally t where t.replay_id = r.id
    ) t`,
];

const running = [
  // The account's last position that was given before a moment, by halving: the log has no index by time. Behind the first that
  // retention has left if there is none.
  sql`create function fanfare.position_before(p_account_id text, p_moment timestamptz) returns bigint language plpgsql stable as $$
    declare
      v_low bigint;
      v_high bigint;
      v_middle bigint;
      v_at timestamptz;
    begin
      select h.position + 1 into v_high from fanfare.head h where h.account_id = p_account_id;
      select l.position - 1 into v_low from fanfare.log l where l.account_id = p_account_id order by l.position limit 1;
      v_low := coalesce(v_low, v_high - 1, 0);
      while v_high - v_low > 1 loop
        v_middle := (v_low + v_high) / 2;
        select l.stamped_at into v_at from fanfare.log l where l.account_id = p_account_id and l.position = v_middle;
        if not found or v_at < p_moment then
          v_low := v_middle;
        else
          v_high := v_middle;
        end if;
      end loop;
      return v_low;
    end
  $$`,

  // Ends the open deliveries of a run, but for those that are being sent: they end as they end, so that none arrives that counts as
  // cancelled.
  sql`create function fanfare.cancel_run(p_account_id text, p_run text, p_reason text) returns int language plpgsql
  set enable_seqscan = off as $$
    declare
      v_count int;
    begin
      with waiting as (
        select d.id from fanfare.delivery d
        where d.account_id = p_account_id and d.run = p_run and (d.lease_until is null or d.lease_until <= clock_timestamp())
        order by d.id for update of d skip locked
      ), gone as (
        delete from fanfare.delivery d using waiting w where d.account_id = p_account_id and d.id = w.id returning d.*
      ), done as (
        insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, body_key, born_at, finished_at, run)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, 'CANCELLED', p_reason, g.generation, g.attempts, g.body_key, g.born_at, fanfare.now(), g.run
        from gone g returning 1
      )
      select count(*) into v_count from done;
      return v_count;
    end
  $$`,

  // Opens again what cancel_run has ended, as far as the webhook still wants it.
  sql`create function fanfare.reopen_run(p_account_id text, p_run text, p_reason text) returns int language plpgsql
  set enable_seqscan = off as $$
    declare
      v_count int;
    begin
      with gone as (
        delete from fanfare.delivery_done d
        where d.account_id = p_account_id and d.run = p_run and d.status = 'CANCELLED' and d.error = p_reason
          and exists (select from fanfare.log l join fanfare.event e on e.seq = l.seq join fanfare.webhook w on w.id = d.webhook_id
                      where l.seq = d.seq and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed))
        returning d.*
      ), born as (
        insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, generation, attempts, body_key, born_at, run)
        select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, fanfare.now(), g.generation, g.attempts, g.body_key, g.born_at, g.run
        from gone g returning 1
      )
      select count(*) into v_count from born;
      update fanfare.replay r set cancelled = r.cancelled - v_count where r.account_id = p_account_id and r.id = p_run;
      return v_count;
    end
  $$`,

  // One step of one replay: adds up what was finished, looks over at most p_positions further positions, and gives birth to deliveries
  // where there is room. All of it in one transaction: who is killed in it has done nothing.
  // The webhook is locked, too: two replays of one for what is missing must not both find it, nor one find what another statement
  // is about to bring forth, open again or forbid. Nothing is waited for, so that nobody is met crosswise.
  // Deliveries wait in one line by their due times, and what is born now stands before all that is live from now on. So no more are
  // born than the webhook has lately taken in a second (at least 16, at most 1,000): that is how long a live one waits behind them.
  // Those that wait for a further attempt are 10,000 at most.
  sql`create function fanfare.step_replay(p_replay_id text, p_positions int) returns table (
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

      -- all of them are looked at, then cut: so not many more than there is room for
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
          select u.position, u.seq, e.id from unnest(v_seqs, v_positions) as u (seq, position)
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
            -- as values: of an exists, all of the webhook's deliveries may be read once for each step
            and (not r.missing or coalesce(
              (select 1 from fanfare.delivery d where d.event_id = e.id and d.webhook_id = w.id and not d.is_blocking limit 1),
              (select 1 from fanfare.delivery_done d where d.event_id = e.id and d.webhook_id = w.id and d.status = 'SUCCEEDED'
               and d.born_at >= v_first - interval '1 hour' limit 1)) is null)
          order by u.position limit v_free
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
