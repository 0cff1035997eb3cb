import pg from 'pg';
import { newId } from '../../src/runtime/id.ts';
import { serveMethods } from '../../test/support/worker.ts';
import type { ClosedLoad } from '../support/load-program.ts';
import { repeatedly, type Throughput } from '../support/pace.ts';
import { productsOf } from '../support/store.ts';

const ACCOUNT = 'acc_default';

interface Product {
  readonly id: string;
  readonly sku: string;
  readonly title: string;
  readonly price_minor: string;
  readonly currency: string;
  readonly stock: number;
}

interface Placement {
  readonly client: pg.ClientBase;
  readonly id: string;
  readonly products: readonly Product[];
}

/** What `orderPlace` does to the database and nothing else: the same statements on bare `pg`, events included. */
export function createOrderStatements() {
  let pool: pg.Pool | undefined;
  let orders = 0;

  async function placeOrder(productIds: readonly string[]): Promise<void> {
    const client = await connected().connect();
    try {
      await client.query('start transaction isolation level read committed');
      const products = await lockProducts(client, productIds);
      const placement = { client, id: newId('order'), products };
      const placedAt = await insertOrder(placement);
      const placedId = await emitPlaced(placement, placedAt);
      await takeStock(placement, placedId);
      await client.query('commit');
    } finally {
      client.release();
    }
  }

  function connected(): pg.Pool {
    if (pool === undefined) throw new Error('call open first');
    return pool;
  }

  return {
    open({ databaseUrl, connections }: { databaseUrl: string; connections: number }): void {
      pool = new pg.Pool({ connectionString: databaseUrl, max: connections });
    },
    placeOrders: ({ productIds, concurrency, seconds }: ClosedLoad): Promise<Throughput> =>
      repeatedly({ concurrency, seconds }, () => placeOrder(productsOf(orders++, productIds))),
  };
}

export type OrderStatements = ReturnType<typeof createOrderStatements>;

async function lockProducts(client: pg.ClientBase, ids: readonly string[]): Promise<Product[]> {
  const { rows } = await client.query<Product>(
    `select * from "products" where "account_id" = $1 and "id" in (${ids.map((_, at) => `$${at + 2}`).join(', ')}) order by "id" for update`,
    [ACCOUNT, ...ids],
  );
  if (rows.length !== ids.length) throw new Error(`expected ${ids.length} products, found ${rows.length}`);
  return rows;
}

async function insertOrder({ client, id, products }: Placement): Promise<Date> {
  const total = products.reduce((sum, { price_minor }) => sum + Number(price_minor), 0);
  const { rows } = await client.query<{ placed_at: Date }>(
    `insert into "orders" ("id", "account_id", "customer_id", "state", "total_minor", "currency")
     values ($1, $2, $3, $4, $5, $6) returning *`,
    [id, ACCOUNT, null, 'PLACED', total, 'GBP'],
  );
  const lines = products.map((product, at) => [
    ...[ACCOUNT, id, at + 1, product.id, product.sku, product.title, 1, product.price_minor, product.currency],
  ]);
  await client.query(
    `insert into "order_lines" ("account_id", "order_id", "number", "product_id", "sku", "title", "quantity", "unit_price_minor", "currency")
     values ${lines.map((line, row) => `(${line.map((_, at) => `$${row * line.length + at + 1}`).join(', ')})`).join(', ')}`,
    lines.flat(),
  );
  return rows[0]?.placed_at ?? new Date(Number.NaN);
}

function emitPlaced({ client, id, products }: Placement, placedAt: Date): Promise<string> {
  const money = (minor: number) => ({ amount: (minor / 100).toFixed(2), currency: 'GBP' });
  const lines = products.map(({ id: productId, sku, price_minor }, at) => {
    return { number: at + 1, productId, sku, quantity: 1, unitPrice: money(Number(price_minor)) };
  });
  const total = money(products.reduce((sum, { price_minor }) => sum + Number(price_minor), 0));
  const facts = { orderId: id, version: 1, state: 'PLACED', customerId: null, total };
  const order = { ...facts, placedAt: placedAt.toISOString(), lines };
  return append(client, { name: 'order.placed', subjectId: id, payload: { order }, changed: null, causedBy: null });
}

async function takeStock({ client, id, products }: Placement, causedBy: string): Promise<void> {
  await client.query(
    `update products set stock = stock + move.quantity
     from unnest($1::text[], $2::int[]) as move (id, quantity) where products.account_id = $3 and products.id = move.id`,
    [products.map((product) => product.id), products.map(() => -1), ACCOUNT],
  );
  for (const product of products) {
    const payload = { sku: product.sku, stock: product.stock - 1, by: -1, reason: 'ORDER_PLACED', orderId: id };
    await append(client, { name: 'stock.changed', subjectId: product.id, payload, changed: ['stock'], causedBy });
  }
}

interface Emission {
  readonly name: string;
  readonly subjectId: string;
  readonly payload: object;
  readonly changed: readonly string[] | null;
  readonly causedBy: string | null;
}

async function append(client: pg.ClientBase, emission: Emission): Promise<string> {
  const { name, subjectId, payload, changed, causedBy } = emission;
  const { rows } = await client.query<{ id: string }>(
    'select * from fanfare.append($1, $2, $3, $4::jsonb, $5::text[], $6::int, $7, $8, $9, true)',
    [ACCOUNT, name, subjectId, JSON.stringify(payload), changed, 1, 'key_bench', 'req_bench', causedBy],
  );
  return rows[0]?.id ?? '';
}

if (import.meta.main) serveMethods(createOrderStatements());
