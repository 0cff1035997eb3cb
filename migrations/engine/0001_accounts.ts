import { type Kysely, sql } from 'kysely';

/** The installation, the accounts with their shards, and the keys that speak for them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  sql`create schema if not exists fanfare`,

  // One row. The id keeps two installations apart on one Redis; the epoch is part of each cursor and is replaced
  // only by `fanfare epoch new`, after a backup was restored. secrets_check tells which SECRETS_KEY is in use.
  sql`create table fanfare.installation (
    one boolean primary key default true check (one),
    id text not null,
    epoch text not null,
    secrets_check text
  )`,
  sql`insert into fanfare.installation (id, epoch)
      values (substr(replace(gen_random_uuid()::text, '-', ''), 1, 12), substr(replace(gen_random_uuid()::text, '-', ''), 1, 16))`,

  // Schedules go by this clock; test databases replace it by one that adds an offset. Leases use clock_timestamp().
  sql`create function fanfare.now() returns timestamptz language sql volatile
      as 'select pg_catalog.clock_timestamp()'`,

  // The form of src/runtime/id.ts: prefix, 12 hex digits of milliseconds, 20 random ones.
  sql`create function fanfare.new_id(prefix text, made_at timestamptz) returns text language sql volatile as $$
    select prefix || '_' || lpad(to_hex(floor(extract(epoch from made_at) * 1000)::bigint), 12, '0')
                  || substr(replace(gen_random_uuid()::text, '-', ''), 1, 10) || substr(replace(gen_random_uuid()::text, '-', ''), 1, 10)
  $$`,

  // A shard is the unit of leadership: who holds the lease with this generation may stamp. head counts its log rows.
  sql`create table fanfare.shard (
    id smallint primary key,
    generation bigint not null default 0,
    owner text,
    lease_until timestamptz not null default '-infinity',
    head bigint not null default 0,
    stamped_at timestamptz not null default '-infinity'
  ) with (fillfactor = 50)`,
  sql`insert into fanfare.shard (id) select generate_series(0, 15)`,

  sql`create table fanfare.process (
    id text primary key,
    seen_at timestamptz not null
  )`,

  sql`create table fanfare.account (
    id text collate "C" primary key check (id ~ '^acc_[0-9a-z]{1,64}$'),
    name text not null check (length(name) between 1 and 200),
    shard smallint not null references fanfare.shard,
    created_at timestamptz not null default fanfare.now()
  )`,

  // Apart from account, so that the stamp's update never waits for a writer's foreign key lock.
  sql`create table fanfare.head (
    account_id text collate "C" primary key references fanfare.account,
    position bigint not null
  ) with (fillfactor = 50)`,

  sql`create function fanfare.shard_of(account_id text) returns smallint language sql immutable as $$
    select (hashtextextended(account_id, 0) & 15)::smallint
  $$`,
  sql`insert into fanfare.account (id, name, shard) values ('acc_default', 'default', fanfare.shard_of('acc_default'))`,

  // A key is kept as its id and a SHA-256 of the whole: the secret can't be read back.
  sql`create table fanfare.api_key (
    id text collate "C" primary key,
    account_id text collate "C" not null references fanfare.account,
    hash bytea not null,
    scopes text[] not null,
    description text not null default '',
    created_at timestamptz not null default fanfare.now(),
    created_by text,
    expires_at timestamptz,
    revoked_at timestamptz
  )`,
  // serves: the keys of an account, newest first
  sql`create index api_key_account on fanfare.api_key (account_id, id)`,
];
