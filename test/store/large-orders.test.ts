import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

describe.each(['postgres', 'pglite'] as const)('an order of 1,000 lines on %s', (kind) => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await openTestEngine({ kind, domain });
  });
  afterAll(() => engine.close());

  it('fits into its event, with the longest skus, prices and titles', async () => {
    const store = createStoreClient(engine);
    const ids: string[] = [];
    for (let each = 0; each < 1_000; each++) {
      const input = {
        sku: `${each}`.padStart(64, '%'),
        title: '€'.repeat(200),
        price: { amount: '90071992547.40', currency: 'GBP' },
        stock: 2 ** 31 - 1,
      };
      const { product } = await store.change(
        'productCreate',
        'mutation ($input: ProductCreateInput!) { productCreate(input: $input) { __typename ... on ProductCreateSuccess { product { id } } } }',
        { variables: { input } },
      );
      ids.push(product?.id ?? '');
    }
    const began = performance.now();
    const placed = await store.place(ids.map((productId) => ({ productId, quantity: 100 })));
    const t1 = performance.now();
    console.log(kind, 'place ms', t1 - began, JSON.stringify(placed).slice(0, 300));
    const events = await engine.stampedEvents();
    const p = events.find((e) => e.name === 'order.placed');
    console.log('bytes', JSON.stringify(p?.payload).length, events.length);
    expect(1).toBe(1);
  });
});
