import { type Kysely, sql } from 'kysely';

/** The two doors into the log, `append` for this program and `emit` for any other, over one function. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  // The subject's row lock is taken before the sequence is read: that makes seq order equal version order within a
  // subject, because the next writer of the subject gets its seq only after this transaction ended.
  sql`create function fanfare.append(
    p_account_id text, p_name text, p_subject_id text, p_payload jsonb, p_changed text[], p_payload_version int,
    p_actor text, p_request_id text, p_caused_by text, p_checked boolean,
    out id text, out subject_version int
  ) language plpgsql as $$
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
      insert into fanfare.outbox (shard, seq, checked) values (v_shard, v_seq, p_checked);
    end
  $$`,
  sql`revoke all on function fanfare.append from public`,

  // For any program that shares this Postgres: "grant usage on schema fanfare to it" is all that it needs.
  // Returns the event's id, or null where an update changed nothing.
  sql`create function fanfare.emit(
    account_id text, name text, subject_id text, payload jsonb, changed text[] default null, payload_version int default 1,
    actor text default null, request_id text default null, caused_by text default null
  ) returns text language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select (fanfare.append(account_id, name, subject_id, payload, changed, payload_version, actor, request_id, caused_by, false)).id
  $$`,
];
