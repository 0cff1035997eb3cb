import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

const MAX_PAYLOAD_BYTES = 262_144;

describe.each(['postgres', 'pglite'] as const)('an order of 1,000 lines on %s', (kind) => {
  let engine: TestEngine;
  let ids: string[];

  beforeAll(async () => {
    engine = await openTestEngine({ kind, domain });
    ids = await insertLargestProducts(engine);
  });
  afterAll(() => engine.close());

  it('fits into its event, with the longest skus, prices, quantities and titles', async () => {
    const store = createStoreClient(engine);
    const placed = await store.place(ids.map((productId) => ({ productId, quantity: 100 })));
    expect(placed.__typename).toBe('OrderPlaceSuccess');
    expect(placed.order?.total.amount).toBe('90071992547000.00');

    const events = await engine.stampedEvents();
    expect(events.filter(({ name }) => name === 'stock.changed')).toHaveLength(1_000);
    const { rows } = await sql<{ bytes: number }>`
      select octet_length(payload::text) as bytes from fanfare.event where name = 'order.placed'
    `.execute(engine.services.database.db);
    expect(rows).toEqual([{ bytes: expect.any(Number) }]);
    expect(rows[0]?.bytes).toBeLessThan(MAX_PAYLOAD_BYTES);
  });

  it('is refused with one line more', async () => {
    const store = createStoreClient(engine);
    const lines = [...ids, ids[0] ?? ''].map((productId) => ({ productId, quantity: 1 }));
    const refused = await engine.fail(store.placeDocument, { variables: { input: { lines } } });
    expect(refused).toEqual({ code: 'BAD_INPUT', message: 'lines: expected 1 to 1000, found 1001' });
  });
});

/** By SQL: a thousand mutations would take seconds. */
async function insertLargestProducts({ services }: TestEngine): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    insert into products (id, account_id, sku, title, price_minor, currency, stock)
    select fanfare.new_id('prod', now()), 'acc_default', lpad(n::text, 64, '%'), repeat('€', 200), 90071992547, 'GBP', 2147483647
    from generate_series(1, 1000) as n
    returning id
  `.execute(services.database.db);
  return rows.map(({ id }) => id);
}
