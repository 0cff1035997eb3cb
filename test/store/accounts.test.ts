import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

describe("another account's objects", () => {
  let engine: TestEngine;
  let ours: ReturnType<typeof createStoreClient>;
  let accountId: string;
  let productId: string;
  let customerId: string;
  let orderId: string;

  beforeAll(async () => {
    engine = await openTestEngine({ kind: 'postgres', domain });
    accountId = await engine.addAccount();
    ours = createStoreClient(engine, { accountId });
    const theirs = createStoreClient(engine);
    productId = await theirs.createProduct();
    customerId = await theirs.createCustomer();
    const { order } = await theirs.place([{ productId, quantity: 1 }], { customerId });
    orderId = order?.id ?? '';
  });
  afterAll(() => engine.close());

  it('do not exist where they are read', async () => {
    const [event] = await engine.stampedEvents();
    const data = await engine.run<object>(
      `query ($product: ID!, $customer: ID!, $order: ID!, $event: ID!) {
        product(id: $product) { id } customer(id: $customer) { id } order(id: $order) { id } event(id: $event) { id }
        productBySku(sku: "SKU-1") { id } node(id: $order) { id } nodes(ids: [$product, $customer, $order, $event]) { id }
        products { nodes { id } } customers { nodes { id } } orders(customerId: $customer) { nodes { id } } events { nodes { id } }
      }`,
      { accountId, variables: { product: productId, customer: customerId, order: orderId, event: event?.id } },
    );
    const none = { nodes: [] };
    expect(data).toEqual({
      product: null,
      customer: null,
      order: null,
      event: null,
      productBySku: null,
      node: null,
      nodes: [null, null, null, null],
      products: none,
      customers: none,
      orders: none,
      events: none,
    });
  });

  it('are NOT_FOUND inside an input', async () => {
    const own = await ours.createProduct();
    const attempts: [string, Record<string, unknown>][] = [
      [ours.placeDocument, { input: { lines: [{ productId, quantity: 1 }] } }],
      [ours.placeDocument, { input: { customerId, lines: [{ productId: own, quantity: 1 }] } }],
      ['mutation ($id: ID!) { orderPay(id: $id, expectedVersion: 1) { __typename } }', { id: orderId }],
      ['mutation ($id: ID!) { orderCancel(id: $id) { __typename } }', { id: orderId }],
      ['mutation ($id: ID!) { stockAdjust(id: $id, by: 1) { __typename } }', { id: productId }],
      ['mutation ($id: ID!) { productUpdate(input: { id: $id, title: "A" }) { __typename } }', { id: productId }],
      ['mutation ($id: ID!) { customerUpdate(input: { id: $id, name: "A" }) { __typename } }', { id: customerId }],
    ];
    for (const [source, variables] of attempts) {
      expect(await engine.fail(source, { accountId, variables })).toMatchObject({ code: 'NOT_FOUND' });
    }
    expect((await engine.stampedEvents(accountId)).map(({ name }) => name)).toEqual(['product.created']);
  });

  it('do not take our skus', async () => {
    const found = await engine.run<object>('{ productBySku(sku: "SKU-1") { id } }');
    expect(found).toEqual({ productBySku: { id: productId } });
    const { productBySku } = await engine.run<{ productBySku: { id: string } }>(
      '{ productBySku(sku: "SKU-1") { id } }',
      {
        accountId,
      },
    );
    expect(productBySku.id).not.toBe(productId);
  });

  it('have an order of events of their own', async () => {
    const positions = (await engine.stampedEvents(accountId)).map(({ position }) => position);
    expect(positions).toEqual(positions.map((_, index) => index + 1));
  });
});
