import { type Kysely, sql } from 'kysely';

/** Named pull consumers: how far each has come, and which ranges of the log are lent out. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  // types to changed are its filter (null: the part is absent), narrowing is its creator's. Everything up to leased_to is
  // done, but for what the leases hold. epoch: of the log that these positions are of.
  sql`create table fanfare.consumer (
    id text collate "C" primary key,
    account_id text collate "C" not null references fanfare.account,
    name text collate "C" not null,
    epoch text not null,
    types text[],
    subjects text[],
    related text[],
    changed text[],
    narrowing jsonb not null check (jsonb_typeof(narrowing) = 'array'),
    leased_to bigint not null check (leased_to >= 0),
    created_by text,
    created_at timestamptz not null default fanfare.now(),
    unique (account_id, name)
  ) with (fillfactor = 50)`,
  // serves: an account's consumers in the order in which they were made
  sql`create index consumer_account on fanfare.consumer (account_id, id)`,

  // What is lent out and not done: the positions behind from_position, up to to_position. Ranges of one consumer never
  // overlap: they are cut off at its end, and later only shrink, split or go. attempts: how often it was lent out.
  sql`create table fanfare.consumer_lease (
    account_id text collate "C" not null,
    consumer_id text collate "C" not null references fanfare.consumer on delete cascade,
    from_position bigint not null,
    to_position bigint not null,
    lease_until timestamptz not null,
    attempts int not null,
    primary key (consumer_id, to_position),
    check (from_position < to_position)
  ) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)`,

  // As clients see it. position: the end of what is done without a hole.
  sql`create view fanfare.consumer_state as
    select c.id, c.account_id, c.name, c.epoch, c.types, c.subjects, c.related, c.changed, c.narrowing, c.leased_to,
           c.created_by, c.created_at,
           coalesce((select l.from_position from fanfare.consumer_lease l where l.consumer_id = c.id order by l.to_position limit 1),
                    c.leased_to) as position,
           coalesce((select h.position from fanfare.head h where h.account_id = c.account_id), 0) as head
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
  sql`create function fanfare.lease_events(
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
         and v_consumer.narrowing = '[]' then
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

  // Takes everything up to p_position of the range that holds it for done. Outcomes:
  //   DONE
  //   DONE_BEFORE: nothing changed
  //   MOVED: no range holds it, and the consumer goes on behind it: ahead of everything with no lease open, behind what
  //     retention has dropped, or into another epoch
  //   LEASED: it is ahead of everything, and leases are open
  //   AHEAD: of the log
  //   GONE
  sql`create function fanfare.ack_events(p_account_id text, p_consumer_id text, p_position bigint) returns text language plpgsql as $$
    declare
      v_consumer fanfare.consumer;
      v_lease fanfare.consumer_lease;
      v_epoch text := (select i.epoch from fanfare.installation i);
      v_head bigint;
      v_position bigint;
      v_earliest bigint;
    begin
      select * into v_consumer from fanfare.consumer c where c.account_id = p_account_id and c.id = p_consumer_id for update;
      if not found then
        return 'GONE';
      end if;
      v_head := coalesce((select h.position from fanfare.head h where h.account_id = p_account_id), 0);
      if p_position > v_head then
        return 'AHEAD';
      end if;
      if v_consumer.epoch <> v_epoch then
        delete from fanfare.consumer_lease d where d.consumer_id = v_consumer.id;
        update fanfare.consumer u set epoch = v_epoch, leased_to = p_position where u.id = v_consumer.id;
        return 'MOVED';
      end if;

      v_position := coalesce(
        (select f.from_position from fanfare.consumer_lease f where f.consumer_id = v_consumer.id order by f.to_position limit 1), v_consumer.leased_to);
      if p_position <= v_position then
        return 'DONE_BEFORE';
      end if;
      select * into v_lease from fanfare.consumer_lease h
      where h.consumer_id = v_consumer.id and h.to_position >= p_position and h.from_position < p_position;

      -- the cursor that a poll has named as the earliest: what is before it can't be lent out any more
      if v_lease.to_position is null or v_lease.lease_until <= clock_timestamp() then
        v_earliest := coalesce(
          (select g.position from fanfare.log g where g.account_id = p_account_id order by g.position limit 1), v_head + 1);
        if p_position = v_earliest - 1 then
          delete from fanfare.consumer_lease d where d.consumer_id = v_consumer.id and d.to_position <= p_position;
          update fanfare.consumer_lease s set from_position = p_position where s.consumer_id = v_consumer.id and s.from_position < p_position;
          update fanfare.consumer u set leased_to = greatest(u.leased_to, p_position) where u.id = v_consumer.id;
          return 'MOVED';
        end if;
      end if;

      if v_lease.to_position = p_position then
        delete from fanfare.consumer_lease d where d.consumer_id = v_consumer.id and d.to_position = p_position;
        return 'DONE';
      elsif v_lease.to_position is not null then
        update fanfare.consumer_lease s set from_position = p_position where s.consumer_id = v_consumer.id and s.to_position = v_lease.to_position;
        return 'DONE';
      elsif p_position <= v_consumer.leased_to then
        return 'DONE_BEFORE';
      elsif exists (select from fanfare.consumer_lease o where o.consumer_id = v_consumer.id and o.lease_until > clock_timestamp()) then
        return 'LEASED';
      end if;
      delete from fanfare.consumer_lease d where d.consumer_id = v_consumer.id;
      update fanfare.consumer u set leased_to = p_position where u.id = v_consumer.id;
      return 'MOVED';
    end
  $$`,
];
