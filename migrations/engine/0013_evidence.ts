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
  // As before, with the evidence.
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
          status_code int, error_class text, reason text, response_headers jsonb, response_body text, is_truncated boolean, remote_address text,
          attempt_id text, request_headers text, body_hash text, is_reused boolean, dns_ms int, connect_ms int, tls_ms int, first_byte_ms int)
      ), mine as (
        select r.*, d.born_at, d.attempts, d.webhook_id, case when r.status = 'PENDING' then v_now + r.delay_ms * interval '1 ms' end as next_at,
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
                                     response_headers, response_body, is_truncated, remote_address, next_at, born_at,
                                     id, webhook_id, request_headers, body_hash, is_reused, dns_ms, connect_ms, tls_ms, first_byte_ms)
        select m.account_id, m.id, m.attempts + 1, m.started_at, m.duration_ms, m.status_code, m.error_class, m.reason,
               m.response_headers, m.response_body, m.is_truncated, m.remote_address, m.next_at, m.born_at,
               m.attempt_id, m.webhook_id, m.request_headers, decode(m.body_hash, 'hex'), m.is_reused, m.dns_ms, m.connect_ms, m.tls_ms, m.first_byte_ms
        from mine m where m.started_at is not null
      )
      select m.id, m.status, m.next_at from mine m;
      if v_subjects is not null then
        perform fanfare.wake_subjects(v_webhook_ids, v_subjects);
      end if;
    end
  $$`,
];
