import pg from 'pg';
import { eventually } from '../../test/support/eventually.ts';
import { withClient } from '../../test/support/postgres-client.ts';
import type { Client } from './client.ts';

/** How many products an order is made of in all benches: three lines, each of another product. */
export const LINES = 3;

/** Many more than the orders under way at one time are made of. */
export const PRODUCTS = 1_000;

const REFUSED = '... on Refusal { refused: message }';

/** Moves one product's stock: one event. */
export const STOCK_ADJUST = `mutation ($id: ID!) {
  stockAdjust(id: $id, by: 1) { ... on StockAdjustSuccess { cursor product { id } } ${REFUSED} }
}`;

/** Places an order: one event, and one for each product whose stock it takes. */
export const ORDER_PLACE = `mutation ($input: OrderPlaceInput!) {
  orderPlace(input: $input) { ... on OrderPlaceSuccess { cursor order { id } } ${REFUSED} }
}`;

const PRODUCT_CREATE = `mutation ($input: ProductCreateInput!) {
  productCreate(input: $input) { ... on ProductCreateSuccess { product { id } } ${REFUSED} }
}`;

const WEBHOOK_CREATE = `mutation ($input: WebhookCreateInput!) {
  webhookCreate(input: $input) { ... on WebhookCreateSuccess { secret } ${REFUSED} }
}`;

/** Puts products with plenty of stock into the table, without events. @returns their ids */
export async function insertProducts(databaseUrl: string, count: number): Promise<string[]> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `insert into products (id, account_id, sku, title, price_minor, currency, stock)
       select fanfare.new_id('prod', now()), 'acc_default', 'SKU-' || n, 'Product ' || n, 1250, 'GBP', 1000000000
       from generate_series(1, $1) n returning id`,
      [count],
    );
    await client.query('analyze');
    return rows.map(({ id }) => id);
  });
}

/** The same by mutations, each with its event: for a database that nobody else can open. */
export async function createProducts(client: Client, count: number): Promise<string[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const price = { amount: '12.50', currency: 'GBP' };
      const input = { sku: `SKU-${at}`, title: `Product ${at}`, price, stock: 1_000_000_000 };
      const { productCreate } = await client.ask<{ productCreate: { product: { id: string } } }>(PRODUCT_CREATE, {
        input,
      });
      return productCreate.product.id;
    }),
  );
}

/** Registers a callback for changes of stock. @returns its signing secret */
export async function createWebhook(client: Client, url: string): Promise<string> {
  const { webhookCreate } = await client.ask<{ webhookCreate: { secret: string } }>(WEBHOOK_CREATE, {
    input: { url, eventTypes: ['STOCK_CHANGED'] },
  });
  return webhookCreate.secret;
}

/** The products of the order with this number: calls under way at the same time never wait for each other's locks. */
export function productsOf(order: number, ids: readonly string[]): string[] {
  return Array.from({ length: LINES }, (_, line) => ids[(order * LINES + line) % ids.length] ?? '');
}

/** Another program, with a connection of its own: to open one for each transaction would cost both cores milliseconds. */
export interface Emitter {
  /** Has the database emit changes of stock in one transaction. @param skuLength makes them larger */
  emit(count: number, skuLength?: number): Promise<void>;
  stop(): Promise<void>;
}

export async function openEmitter(databaseUrl: string): Promise<Emitter> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  return { emit: (count, skuLength) => emitBy(client, count, skuLength), stop: () => client.end() };
}

/** Has the database emit changes of stock in one transaction, over a connection that is opened for it. */
export async function emitStockChanges(databaseUrl: string, count: number, skuLength?: number): Promise<void> {
  await withClient(databaseUrl, (client) => emitBy(client, count, skuLength));
}

async function emitBy(client: pg.Client, count: number, skuLength = 0): Promise<void> {
  await client.query(
    `select fanfare.emit('acc_default', 'stock.changed', 'prod_bench' || n,
       jsonb_build_object('sku', rpad('SKU-' || n, greatest($2::int, length('SKU-' || n)), '.'), 'stock', 1000 + n, 'by', 1, 'reason', 'ADJUSTED', 'orderId', null), array['stock'])
     from generate_series(1, $1) n`,
    [count, skuLength],
  );
}

/** Waits until the log has so many events. */
export async function settleLog(databaseUrl: string, events: number): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    const readHead = async () => {
      const { rows } = await client.query<{ position: string }>('select position from fanfare.head');
      return rows[0]?.position === String(events);
    };
    await eventually(readHead, { deadlineMs: 60_000, everyMs: 100, describe: `the log to have ${events} events` });
  });
}
