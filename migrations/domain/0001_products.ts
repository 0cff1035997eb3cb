import { type Kysely, sql } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table products (
    id text collate "C" primary key,
    account_id text collate "C" not null,
    sku text collate "C" not null,
    title text not null,
    price_minor bigint not null check (price_minor >= 0),
    currency text not null,
    stock int not null check (stock >= 0)
  )`.execute(db);
  // serves: the products of an account in order of their ids
  await sql`create index products_account on products (account_id, id)`.execute(db);
  // serves: a product by its sku, and makes it unique
  await sql`create unique index products_sku on products (account_id, sku)`.execute(db);
}
