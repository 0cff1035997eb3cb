import { type Kysely, sql } from 'kysely';

/** What is known of each attempt, and lists of attempts. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...columns, ...indexes, ...recording]) await statement.execute(db);
}

const columns = [
  // id: att_ with the time of its start, which its list is ordered by; null for those that an older program has written, which are seen
  // with their deliveries only. request_headers: a line "name: value" for each, secrets masked; null, as are body_hash and
  // is_reused, if nothing was sent.
  sql`alter table fanfare.attempt
    add id text collate "C",
    add webhook_id text collate "C",
    add request_headers text,
    add body_hash bytea,
    add is_reused boolean,
    add dns_ms int,
    add connect_ms int,
    add tls_ms int,
    add first_byte_ms int`,
];

const indexes = [
  // serves: the attempts of a webhook, in the order of their starts
  sql`create index attempt_webhook on fanfare.attempt (webhook_id, id)`,
  // serves: those that failed, among millions that did not; costs a success nothing
  sql`create index attempt_failed on fanfare.attempt (webhook_id, id) where error_class is not null`,
  // serves: those that were answered by a certain status
  sql`create index attempt_failed_status on fanfare.attempt (webhook_id, status_code, id) where error_class is not null and status_code is not null`,
];

const recording = [
  // As before, with the evidence. An exhausted one that keeps an order stays, and those behind it wait, if its webhook says so; each
  // other end lets the next of its subject go. From the results to their rows, each by its key: by a join whose plan was made
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
