import { type Kysely, sql } from 'kysely';

/** Leases on shards, and the stamp that gives committed events their order. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  // Holds what it gets; asks for no more than its fair share of the living processes, and for none of p_except.
  sql`create function fanfare.claim_shards(p_owner text, p_lease interval, p_steal boolean, p_except smallint[] default '{}')
  returns table (id smallint, generation bigint) language plpgsql as $$
    declare
      v_fair int;
      v_held int;
    begin
      insert into fanfare.process as p (id, seen_at) values (p_owner, clock_timestamp())
      on conflict on constraint process_pkey do update set seen_at = excluded.seen_at;
      -- who steals knows that the others are dead: they must not count towards its share
      delete from fanfare.process p where p.seen_at < clock_timestamp() - interval '1 hour' or (p_steal and p.id <> p_owner);
      select ceil((select count(*) from fanfare.shard)::numeric / count(*)) into v_fair
      from fanfare.process p where p.seen_at > clock_timestamp() - p_lease;
      select count(*) into v_held from fanfare.shard s where s.owner = p_owner and s.lease_until > clock_timestamp();

      update fanfare.shard s set lease_until = '-infinity' from (
        select s2.id from fanfare.shard s2 where s2.owner = p_owner and s2.lease_until > clock_timestamp()
        order by s2.id desc limit greatest(v_held - v_fair, 0)
      ) surplus where s.id = surplus.id;

      return query
      update fanfare.shard s set generation = s.generation + 1, owner = p_owner, lease_until = clock_timestamp() + p_lease
      from (
        select s2.id from fanfare.shard s2 where (p_steal or s2.lease_until <= clock_timestamp()) and not s2.id = any(p_except)
        order by s2.id limit greatest(v_fair - v_held, 0) for update skip locked
      ) free
      where s.id = free.id
      returning s.id, s.generation;
    end
  $$`,

  // Fewer rows back than asked for: those leases are lost. A late renewal is fine while nobody else has taken over.
  // Locks in the order in which stamp does: the two may meet.
  sql`create function fanfare.renew_shards(p_owner text, p_shards smallint[], p_generations bigint[], p_lease interval)
  returns table (id smallint, generation bigint) language sql as $$
    update fanfare.shard s set lease_until = clock_timestamp() + p_lease
    from (
      select s2.id from fanfare.shard s2
      join unnest(p_shards, p_generations) as held (id, generation) on held.id = s2.id
      where s2.generation = held.generation and s2.owner = p_owner and s2.lease_until > '-infinity'
      order by s2.id for update of s2
    ) mine
    where s.id = mine.id
    returning s.id, s.generation
  $$`,

  // Replaced by the webhooks migration: deliveries are born in the stamping transaction.
  sql`create function fanfare.match_webhooks(p_seqs bigint[]) returns void language sql as 'select null::void'`,

  // What the leader has to validate before it may stamp it or what is behind it. A function for the sake of its plan: the
  // planner, left alone, walked through all of the log's events for it, 200 ms per batch beside a backlog of 50,000.
  sql`create function fanfare.unchecked_events(p_shards smallint[], p_limit int)
  returns table (shard smallint, seq bigint, name text, payload jsonb, payload_version int) language sql stable
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    select o.shard, e.seq, e.name, e.payload, e.payload_version
    from (
      select o.shard, o.seq from unnest(p_shards) as held (shard)
      cross join lateral (
        select o.shard, o.seq from fanfare.outbox o where o.shard = held.shard and not o.checked order by o.seq limit p_limit
      ) o
      order by o.seq limit p_limit
    ) o
    join fanfare.event e on e.seq = o.seq
    order by e.seq
  $$`,

  // Plans cached while the tables were empty stamped a backlog at 7k/s instead of 33k: hence the switched off scans. They
  // make plans look dear, and so each would be compiled to machine code, at a second per batch: hence jit = off.
  sql`create function fanfare.stamp(
    p_shards smallint[], p_generations bigint[], p_seen bigint[], p_invalid bigint[], p_reasons text[], p_limit int
  ) returns table (
    shard smallint, shard_offset bigint, "position" bigint, seq bigint, id text, account_id text, name text, payload_version int,
    occurred_at timestamptz, subject_type text, subject_id text, subject_version int, changed text[], related text[],
    payload jsonb, actor text, request_id text, caused_by text
  ) language plpgsql
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
    #variable_conflict use_column
    declare
      v_held smallint[];
      v_at timestamptz;
      v_shards smallint[];
      v_offsets bigint[];
      v_positions bigint[];
      v_seqs bigint[];
    begin
      -- keeps the empty poll free of WAL (939 bytes otherwise)
      if not exists (select from fanfare.outbox o where o.shard = any(p_shards)) then
        return;
      end if;

      -- the fence: a statement of its own, so that the next one's snapshot is taken after the lock was got
      select array_agg(s.id), greatest(fanfare.now(), max(s.stamped_at)) into v_held, v_at
      from (
        select s.id, s.stamped_at from fanfare.shard s
        join unnest(p_shards, p_generations) as held (id, generation) on held.id = s.id
        where s.generation = held.generation and s.lease_until > clock_timestamp()
        order by s.id for update of s
      ) s;
      if v_held is null then
        return;
      end if;

      with candidate as (
        -- lateral: reads p_limit rows of each shard, where "shard = any(…)" would sort the whole backlog for each batch
        select o.shard, o.seq, o.checked or o.seq = any(p_seen) or o.seq = any(p_invalid) as seen
        from unnest(v_held) as held (shard)
        cross join lateral (
          select o.shard, o.seq, o.checked from fanfare.outbox o where o.shard = held.shard order by o.seq limit p_limit
        ) o
        order by o.seq limit p_limit
      ), cut as (
        select c.shard, min(c.seq) as seq from candidate c where not c.seen group by c.shard
      ), gone as (
        delete from fanfare.outbox o using candidate c
        where o.shard = c.shard and o.seq = c.seq
          and not exists (select from cut where cut.shard = c.shard and cut.seq <= c.seq)
        returning o.shard, o.seq
      ), numbered as (
        select g.shard, g.seq, e.account_id,
               row_number() over (partition by g.shard order by g.seq) as shard_number,
               row_number() over (partition by e.account_id order by g.seq) as account_number
        from gone g join fanfare.event e on e.seq = g.seq
        where not g.seq = any(p_invalid)
      ), parked as (
        insert into fanfare.parked (seq, event_id, account_id, position, name, reason)
        select e.seq, e.id, e.account_id,
               coalesce((select h.position from fanfare.head h where h.account_id = e.account_id), 0)
                 + (select count(*) from numbered n where n.account_id = e.account_id and n.seq < e.seq),
               e.name, coalesce(bad.reason, 'invalid')
        from unnest(p_invalid, p_reasons) as bad (seq, reason)
        join gone on gone.seq = bad.seq
        join fanfare.event e on e.seq = bad.seq
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
      select array_agg(s.shard), array_agg(s.shard_offset), array_agg(s.position), array_agg(s.seq)
      into v_shards, v_offsets, v_positions, v_seqs from stamped s;
      if v_seqs is null then
        return;
      end if;

      perform fanfare.match_webhooks(v_seqs);

      -- not read back from the log: ordered by the offset, that walked through the whole of it
      return query
      select l.shard, l.shard_offset, l.position, e.seq, e.id, e.account_id, e.name, e.payload_version, e.occurred_at,
             e.subject_type, e.subject_id, e.subject_version, e.changed, e.related, e.payload, e.actor, e.request_id, e.caused_by
      from unnest(v_shards, v_offsets, v_positions, v_seqs) as l (shard, shard_offset, position, seq)
      join fanfare.event e on e.seq = l.seq
      order by l.shard, l.shard_offset;
    end
  $$`,
];
