import { type Kysely, sql } from 'kysely';

/** Consumers take the part `triggers` of a filter, as every channel does. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  sql`alter table fanfare.consumer add triggers text[]`,

  // As before, with triggers, which a view takes at its end only.
  sql`create or replace view fanfare.consumer_state as
    select c.id, c.account_id, c.name, c.epoch, c.types, c.subjects, c.related, c.changed, c.narrowing, c.leased_to,
           c.created_by, c.created_at,
           coalesce((select l.from_position from fanfare.consumer_lease l where l.consumer_id = c.id order by l.to_position limit 1),
                    c.leased_to) as position,
           coalesce((select h.position from fanfare.head h where h.account_id = c.account_id), 0) as head,
           c.triggers
    from fanfare.consumer c`,

  // Lends out the next range of a consumer, for at most p_first events that it wants: an expired one first, the oldest of
  // them, else what is behind the furthest. All under the consumer's row lock: no two callers get one position at a time.
  // Looks through at most p_scan positions. Outcomes:
  //   LEASED: the range, with so many events that it wants, is the caller's until leased_until
  //   SCANNED: the range was looked through, held nothing that it wants, and counts as done: call again
  //   EMPTY: there is nothing; wait_ms: until the first lease runs out, null if there is none
  //   FULL: p_max_leases are open
  //   LOST: retention has dropped events behind from_position; earliest: the first position that is left
  //   EPOCH_CHANGED, GONE
  sql`create or replace function fanfare.lease_events(
    p_account_id text, p_consumer_id text, p_first int, p_lease interval, p_scan int, p_max_leases int
  ) returns table (
    outcome text, from_position bigint, to_position bigint, events int, leased_until timestamptz, attempts int, head bigint, earliest bigint,
    wait_ms int
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_consumer fanfare.consumer;
      v_lease fanfare.consumer_lease;
      v_until timestamptz;
      v_from bigint;
      v_to bigint;
      v_last bigint;
    begin
      -- without a lock at first: a poll that finds nothing writes nothing
      for v_round in 1..2 loop
        if v_round = 1 then
          select * into v_consumer from fanfare.consumer c where c.account_id = p_account_id and c.id = p_consumer_id;
        else
          select * into v_consumer from fanfare.consumer c where c.account_id = p_account_id and c.id = p_consumer_id for update;
        end if;
        if not found then
          outcome := 'GONE';
          return next;
          return;
        end if;
        if v_consumer.epoch <> (select i.epoch from fanfare.installation i) then
          outcome := 'EPOCH_CHANGED';
          return next;
          return;
        end if;
        head := coalesce((select h.position from fanfare.head h where h.account_id = p_account_id), 0);
        select min(l.lease_until) into v_until from fanfare.consumer_lease l where l.consumer_id = v_consumer.id;
        if v_consumer.leased_to >= head and (v_until is null or v_until > clock_timestamp()) then
          outcome := 'EMPTY';
          wait_ms := ceil(extract(epoch from v_until - clock_timestamp()) * 1000);
          return next;
          return;
        end if;
      end loop;

      select * into v_lease from fanfare.consumer_lease l
      where l.consumer_id = v_consumer.id and l.lease_until <= clock_timestamp() order by l.to_position limit 1;
      if found then
        v_from := v_lease.from_position;
        v_to := v_lease.to_position;
      else
        v_from := v_consumer.leased_to;
        v_to := head;
        if (select count(*) from fanfare.consumer_lease l where l.consumer_id = v_consumer.id) >= p_max_leases then
          outcome := 'FULL';
          leased_until := v_until;
          return next;
          return;
        end if;
      end if;

      earliest := coalesce((select g.position from fanfare.log g where g.account_id = p_account_id order by g.position limit 1), head + 1);
      from_position := v_from;
      if v_from < earliest - 1 then
        outcome := 'LOST';
        return next;
        return;
      end if;

      if v_consumer.types is null and v_consumer.subjects is null and v_consumer.related is null and v_consumer.changed is null
         and v_consumer.triggers is null and v_consumer.narrowing = '[]' then
        v_to := least(v_to, v_from + p_first);
        events := v_to - v_from;
      else
        v_to := least(v_to, v_from + p_scan);
        select count(*), max(w.position) into events, v_last from (
          select g.position from fanfare.log g
          -- each event by its row of the log: by the index of subjects all events of a subject were read for each
          cross join lateral (select o.* from fanfare.event o where o.seq = g.seq offset 0) e
          where g.account_id = p_account_id and g.position > v_from and g.position <= v_to
            and (v_consumer.types is null or e.name = any(v_consumer.types))
            and (v_consumer.subjects is null or e.subject_id = any(v_consumer.subjects))
            and (v_consumer.related is null or e.related && v_consumer.related)
            and (v_consumer.changed is null or e.changed && v_consumer.changed)
            and (v_consumer.triggers is null or e.changed = '{}' or e.changed && v_consumer.triggers)
            and (v_consumer.narrowing = '[]' or not exists (
              select from jsonb_array_elements(v_consumer.narrowing) as granted (f)
              where not fanfare.filter_holds(granted.f, e.name, e.subject_id, e.related, e.changed)))
          order by g.position limit p_first
        ) w;
        if events = p_first then
          v_to := v_last;
        end if;
      end if;
      to_position := v_to;

      if v_lease.to_position is null then
        update fanfare.consumer set leased_to = v_to where id = v_consumer.id;
      elsif v_to = v_lease.to_position then
        delete from fanfare.consumer_lease d where d.consumer_id = v_consumer.id and d.to_position = v_lease.to_position;
      else
        update fanfare.consumer_lease r set from_position = v_to where r.consumer_id = v_consumer.id and r.to_position = v_lease.to_position;
      end if;
      if events = 0 then
        outcome := 'SCANNED';
        return next;
        return;
      end if;
      outcome := 'LEASED';
      attempts := coalesce(v_lease.attempts, 0) + 1;
      leased_until := clock_timestamp() + p_lease;
      insert into fanfare.consumer_lease (account_id, consumer_id, from_position, to_position, lease_until, attempts)
      values (p_account_id, v_consumer.id, v_from, v_to, leased_until, attempts);
      return next;
    end
  $$`,
];
