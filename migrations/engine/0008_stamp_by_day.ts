import { type Kysely, sql } from 'kysely';

/**
 * The outbox says of each event whose it is and when it occurred, so that the stamp looks into one daily partition, not into all.
 * Starting a plan over all of them (17 tables, each with its index, in six places) was half of a stamp: 0.5 of 1.0 ms for
 * one event (2 cores, 2026-11-22).
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  // Null only in rows of calls that had begun before this migration, and in those that wait just now.
  sql`alter table fanfare.outbox add column account_id text collate "C", add column occurred_at timestamptz`,

  // A function, so that the plans that name it begin without the partitions.
  sql`create function fanfare.event_of(p_seq bigint) returns fanfare.event language plpgsql stable as $$
    begin
      return (select e from fanfare.event e where e.seq = p_seq);
    end
  $$`,
  // The subject's row lock is taken before the sequence is read: that makes seq order equal version order within a
  // subject, because the next writer of the subject gets its seq only after this transaction ended.
  sql`create or replace function fanfare.append(
    p_account_id text, p_name text, p_subject_id text, p_payload jsonb, p_changed text[], p_payload_version int,
    p_actor text, p_request_id text, p_caused_by text, p_checked boolean,
    out id text, out subject_version int
  ) language plpgsql
  set plan_cache_mode = force_generic_plan as $$
    #variable_conflict use_column
    declare
      v_type fanfare.event_type;
      v_shard smallint;
      v_seq bigint;
      v_now timestamptz := date_trunc('milliseconds', fanfare.now());
      v_related text[];
    begin
      select t.* into v_type from fanfare.event_type t where t.name = p_name;
      if not found then
        raise exception 'fanfare: "%" is not an event type', p_name using errcode = 'FF001',
          hint = 'declared are: ' || coalesce((select string_agg(t.name, ', ' order by t.name) from fanfare.event_type t), 'none yet; start the server once');
      end if;
      select a.shard into v_shard from fanfare.account a where a.id = p_account_id;
      if not found then
        raise exception 'fanfare: account "%" does not exist', p_account_id using errcode = 'FF002';
      end if;
      if p_subject_id is null or length(p_subject_id) not between 1 and 200 then
        raise exception 'fanfare: subject_id must be 1 to 200 characters' using errcode = 'FF003';
      end if;
      if p_payload is null or jsonb_typeof(p_payload) <> 'object' then
        raise exception 'fanfare: payload must be a JSON object, found %', coalesce(jsonb_typeof(p_payload), 'null') using errcode = 'FF004';
      end if;
      if octet_length(p_payload::text) > 262144 then
        raise exception 'fanfare: payload is % bytes, at most 262144 are allowed', octet_length(p_payload::text) using errcode = 'FF005';
      end if;
      if p_payload_version is null or p_payload_version not between 1 and v_type.version then
        raise exception 'fanfare: payload_version % of "%" is not known, expected 1 to %', p_payload_version, p_name, v_type.version using errcode = 'FF006';
      end if;
      if array_ndims(p_changed) > 1 or array_position(p_changed, null) is not null then
        raise exception 'fanfare: changed must be a plain list of names, found %', p_changed using errcode = 'FF007';
      end if;
      if v_type.kind = 'fact' and cardinality(p_changed) > 0 then
        raise exception 'fanfare: "%" is a fact: changed must be null', p_name using errcode = 'FF007';
      end if;
      if v_type.kind = 'update' then
        if p_changed is null then
          raise exception 'fanfare: "%" is an update: changed must name the fields that changed', p_name using errcode = 'FF007';
        end if;
        if cardinality(p_changed) = 0 then
          return;
        end if;
      end if;

      insert into fanfare.subject as s (account_id, type, id, version) values (p_account_id, v_type.subject_type, p_subject_id, 1)
      on conflict (account_id, type, id) do update set version = s.version + 1
      returning s.version into subject_version;

      v_seq := nextval('fanfare.event_seq');
      id := fanfare.new_id('evt', v_now);
      -- lax mode: a path through a list means each of its elements
      select coalesce(array_agg(distinct value #>> '{}'), '{}') into v_related
      from unnest(v_type.related) as path
      cross join lateral jsonb_path_query(p_payload, path::jsonpath) as value
      where jsonb_typeof(value) = 'string';

      insert into fanfare.event (seq, id, account_id, name, payload_version, occurred_at, subject_type, subject_id, subject_version,
                                 changed, related, payload, actor, request_id, caused_by)
      values (v_seq, id, p_account_id, p_name, p_payload_version, v_now, v_type.subject_type, p_subject_id, subject_version,
              coalesce(p_changed, '{}'), v_related, p_payload, p_actor, p_request_id, p_caused_by);
      insert into fanfare.outbox (shard, seq, checked, account_id, occurred_at) values (v_shard, v_seq, p_checked, p_account_id, v_now);
    end
  $$`,
  // By the day of the log and the days of the events: without them, each look began its plan over all partitions.
  sql`create function fanfare.match_webhooks(p_seqs bigint[], p_at timestamptz, p_from timestamptz, p_to timestamptz) returns void language plpgsql as $$
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
      join fanfare.log l on l.seq = stamped.seq and l.stamped_at = p_at
      join fanfare.webhook w on w.account_id = l.account_id
      join fanfare.event e on e.seq = l.seq and e.occurred_at between p_from and p_to
      where w.status <> 'DISABLED' and l.position > w.live_after
        and fanfare.webhook_wants(w, e.name, e.subject_id, e.related, e.changed);
    end
  $$`,
  // rest_unchecked: whether some event has to be looked at first, and holds up those behind it.
  sql`drop function fanfare.stamp(smallint[], bigint[], bigint[], bigint[], text[], int)`,
  // Plans cached while the tables were empty stamped a backlog at 7k/s instead of 33k: hence the switched off scans. They
  // make plans look dear, and so each would be compiled to machine code, at a second per batch: hence jit = off.
  sql`create function fanfare.stamp(
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
        returning shard, shard_offset, position, seq
      )
      select array_agg(s.shard), array_agg(s.shard_offset), array_agg(s.position), array_agg(s.seq), min(n.occurred_at), max(n.occurred_at),
             v_rest or exists (select from cut)
      into v_shards, v_offsets, v_positions, v_seqs, v_from, v_to, v_rest from stamped s join numbered n on n.seq = s.seq;
      if v_seqs is null then
        return;
      end if;

      perform fanfare.match_webhooks(v_seqs, v_at, v_from, v_to);

      -- not read back from the log: ordered by the offset, that walked through the whole of it
      return query
      select l.shard, l.shard_offset, l.position, e.seq, e.id, e.account_id, e.name, e.payload_version, e.occurred_at,
             e.subject_type, e.subject_id, e.subject_version, e.changed, e.related, e.payload, e.actor, e.request_id, e.caused_by, v_rest
      from unnest(v_shards, v_offsets, v_positions, v_seqs) as l (shard, shard_offset, position, seq)
      join fanfare.event e on e.seq = l.seq and e.occurred_at between v_from and v_to
      order by l.shard, l.shard_offset;
    end
  $$`,
  sql`drop function fanfare.match_webhooks(bigint[])`,
];
