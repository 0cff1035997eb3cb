import { type Kysely, sql } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await statement.execute(db);
}

const statements = [
  sql`create table orders (
    id text collate "C" primary key,
    account_id text collate "C" not null,
    customer_id text collate "C" references customers,
    state text not null check (state in ('PLACED', 'PAID', 'SHIPPED', 'DELIVERED', 'CANCELLED')),
    total_minor bigint not null check (total_minor >= 0),
    currency text not null,
    placed_at timestamptz not null default date_trunc('milliseconds', now())
  )`,
  // serves: the orders of an account in order of their ids
  sql`create index orders_account on orders (account_id, id)`,
  // serves: the orders of a customer
  sql`create index orders_customer on orders (account_id, customer_id, id)`,
  // serves: the orders in a state
  sql`create index orders_state on orders (account_id, state, id)`,

  // The sku, the title and the price are as they were when the order was placed.
  sql`create table order_lines (
    account_id text collate "C" not null,
    order_id text collate "C" not null references orders,
    number int not null check (number between 1 and 1000),
    product_id text collate "C" not null references products,
    sku text not null,
    title text not null,
    quantity int not null check (quantity between 1 and 1000000),
    unit_price_minor bigint not null check (unit_price_minor >= 0),
    currency text not null,
    primary key (account_id, order_id, number)
  )`,
];
