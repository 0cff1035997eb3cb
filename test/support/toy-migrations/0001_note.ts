import { type Kysely, sql } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table note (
    id text collate "C" primary key,
    account_id text collate "C" not null,
    text text not null
  )`.execute(db);
  await sql`create index note_account on note (account_id, id)`.execute(db);
}
