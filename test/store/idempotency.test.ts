import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

describe.each(['postgres', 'pglite'] as const)('a change with an idempotency key on %s', (kind) => {
  let engine: TestEngine;
  let store: ReturnType<typeof createStoreClient>;

  beforeAll(async () => {
    engine = await openTestEngine({ kind, domain, maxConnections: 60 });
    store = createStoreClient(engine);
  });
  afterAll(() => engine.close());

  it('is made once by 50 equal calls, which all get the same answer', async () => {
    const productId = await store.createProduct({ stock: 60 });
    const place = () => store.place([{ productId, quantity: 1 }], { idempotencyKey: 'fifty' });
    const answers = await Promise.all(Array.from({ length: 50 }, place));
    expect(answers[0]).toMatchObject({ __typename: 'OrderPlaceSuccess', order: { state: 'PLACED' } });
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(await store.stockOf(productId)).toBe(59);
    expect(await place()).toEqual(answers[0]);
  });

  it('is made by each of 50 equal calls without a key (negative control)', async () => {
    const productId = await store.createProduct({ stock: 60 });
    await Promise.all(Array.from({ length: 50 }, () => store.place([{ productId, quantity: 1 }])));
    expect(await store.stockOf(productId)).toBe(10);
  });

  it('answers a repeat with its own selection, on the order as it is now', async () => {
    const productId = await store.createProduct();
    const input = { lines: [{ productId, quantity: 1 }] };
    const first = await store.place(input.lines, { idempotencyKey: 'again' });
    await store.move('Pay', first.order?.id ?? '');
    const again = await engine.run<object>(
      'mutation ($input: OrderPlaceInput!) { orderPlace(input: $input) { ... on OrderPlaceSuccess { order { id state lines { quantity } } } } }',
      { variables: { input }, idempotencyKey: 'again' },
    );
    expect(again).toEqual({ orderPlace: { order: { id: first.order?.id, state: 'PAID', lines: [{ quantity: 1 }] } } });
  });

  it('is refused with CONFLICT if the input differs', async () => {
    const productId = await store.createProduct();
    await store.place([{ productId, quantity: 1 }], { idempotencyKey: 'other' });
    const input = { lines: [{ productId, quantity: 2 }] };
    const fault = await engine.fail(store.placeDocument, { variables: { input }, idempotencyKey: 'other' });
    expect(fault.code).toBe('CONFLICT');
    expect(await store.stockOf(productId)).toBe(9);
  });

  it('is tried again after a refusal, which is not remembered', async () => {
    const productId = await store.createProduct({ stock: 0 });
    const place = () => store.place([{ productId, quantity: 1 }], { idempotencyKey: 'refused' });
    expect(await place()).toMatchObject({ __typename: 'OutOfStock' });
    await store.change('stockAdjust', `mutation { stockAdjust(id: "${productId}", by: 1) { __typename } }`);
    expect(await place()).toMatchObject({ __typename: 'OrderPlaceSuccess' });
  });

  it('is tried again after a failure', async () => {
    const productId = await store.createProduct();
    const idempotencyKey = 'failed';
    const input = { customerId: `cust_${'0'.repeat(32)}`, lines: [{ productId, quantity: 1 }] };
    const options = { variables: { input }, idempotencyKey };
    expect(await engine.fail(store.placeDocument, options)).toMatchObject({ code: 'NOT_FOUND' });
    expect(await store.place(input.lines, { idempotencyKey })).toMatchObject({ __typename: 'OrderPlaceSuccess' });
  });
});
