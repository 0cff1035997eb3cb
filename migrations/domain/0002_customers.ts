import { type Kysely, sql } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table customers (
    id text collate "C" primary key,
    account_id text collate "C" not null,
    name text not null,
    email text,
    country text
  )`.execute(db);
  // serves: the customers of an account in order of their ids
  await sql`create index customers_account on customers (account_id, id)`.execute(db);
}
