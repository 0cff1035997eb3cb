import { type Kysely, sql } from 'kysely';

/** The event log: capture in the caller's transaction, and the order that the sequencer gives afterwards. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  // Synced from the code at start; read by fanfare.emit.
  sql`create table fanfare.event_type (
    name text primary key,
    kind text not null check (kind in ('fact', 'update')),
    version int not null check (version >= 1),
    subject_type text not null,
    scope text not null,
    related text[] not null,
    schema jsonb not null,
    synced_at timestamptz not null default fanfare.now()
  )`,

  sql`create table fanfare.subject (
    account_id text collate "C" not null,
    type text not null,
    id text collate "C" not null,
    version int not null,
    primary key (account_id, type, id)
  ) with (fillfactor = 70)`,

  sql`create sequence fanfare.event_seq as bigint`,
  sql`create table fanfare.event (
    seq bigint not null,
    id text collate "C" not null,
    account_id text collate "C" not null,
    name text not null,
    payload_version int not null,
    occurred_at timestamptz not null,
    subject_type text not null,
    subject_id text collate "C" not null,
    subject_version int not null,
    changed text[] not null,
    related text[] not null,
    payload jsonb not null,
    actor text,
    request_id text,
    caused_by text,
    primary key (seq, occurred_at)
  ) partition by range (occurred_at)`,
  // serves: one event by its id, whose time picks the partition
  sql`create index event_id on fanfare.event (id)`,
  // serves: the events of a subject
  sql`create index event_subject on fanfare.event (account_id, subject_id, seq)`,
  sql`create table fanfare.event_default partition of fanfare.event default`,

  // Committed and not yet stamped. checked: the payload was validated by the TypeScript door.
  sql`create table fanfare.outbox (
    shard smallint not null,
    seq bigint not null,
    checked boolean not null,
    primary key (shard, seq)
  ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0)`,
  // serves: the leader's look for what came through SQL
  sql`create index outbox_unchecked on fanfare.outbox (shard, seq) where not checked`,

  sql`create table fanfare.log (
    shard smallint not null,
    shard_offset bigint not null,
    account_id text collate "C" not null,
    position bigint not null,
    seq bigint not null,
    stamped_at timestamptz not null,
    primary key (shard, shard_offset, stamped_at)
  ) partition by range (stamped_at)`,
  // serves: an account's events by position; the second wall behind "gapless"
  sql`create unique index log_position on fanfare.log (account_id, position, stamped_at)`,
  // serves: the position of an event
  sql`create index log_seq on fanfare.log (seq)`,
  sql`create table fanfare.log_default partition of fanfare.log default`,

  // Events whose payload, written through SQL, breaks its schema. The event row stays for the operator. position: of the
  // account's event before it, when it was parked.
  sql`create table fanfare.parked (
    seq bigint primary key,
    event_id text collate "C" not null,
    account_id text collate "C" not null,
    position bigint not null,
    name text not null,
    reason text not null,
    parked_at timestamptz not null default fanfare.now()
  )`,

  sql`create table fanfare.idempotency (
    account_id text collate "C" not null,
    key text not null,
    field text not null,
    arguments_hash bytea not null,
    outcome jsonb,
    created_at timestamptz not null default fanfare.now(),
    primary key (account_id, key)
  )`,
  // serves: forgetting after 24 hours
  sql`create index idempotency_created on fanfare.idempotency (created_at)`,

  // Daily partitions of each partitioned table here. Attached, not created in place: the parents stay open to readers, only the default
  // partitions are locked for a moment, and who calls this sets a lock_timeout against standing in line for it.
  sql`create function fanfare.make_partitions(until date) returns int language plpgsql as $$
    declare
      day date := (fanfare.now() at time zone 'UTC')::date - 1;
      parent text;
      child text;
      made int := 0;
    begin
      perform pg_advisory_xact_lock(hashtext('fanfare.make_partitions'));
      while day <= until loop
        for parent in select c.relname from pg_partitioned_table p join pg_class c on c.oid = p.partrelid
                      where c.relnamespace = 'fanfare'::regnamespace and c.relkind = 'p' order by c.relname loop
          child := parent || '_' || to_char(day, 'YYYYMMDD');
          continue when to_regclass('fanfare.' || child) is not null;
          execute format('create table fanfare.%I (like fanfare.%I including defaults)', child, parent);
          begin
            execute format('alter table fanfare.%I attach partition fanfare.%I for values from (%L) to (%L)',
                           parent, child, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
            made := made + 1;
          exception when check_violation then
            -- the default partition holds rows of that day: they stay there until they are pruned
            execute format('drop table fanfare.%I', child);
          end;
        end loop;
        day := day + 1;
      end loop;
      return made;
    end
  $$`,
  sql`select fanfare.make_partitions((fanfare.now() at time zone 'UTC')::date + 14)`,
];
