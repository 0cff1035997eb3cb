import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient, type Outcome } from './store-client.ts';

const CREATE = `mutation ($input: ProductCreateInput!) {
  productCreate(input: $input) {
    __typename ... on Refusal { code message } ... on SkuTaken { sku }
    ... on ProductCreateSuccess { cursor product { id version sku title price { amount currency } stock } }
  }
}`;
const UPDATE = `mutation ($input: ProductUpdateInput!) {
  productUpdate(input: $input) {
    __typename ... on Refusal { code message } ... on VersionConflict { id expectedVersion currentVersion }
    ... on ProductUpdateSuccess { cursor product { id version sku title price { amount currency } stock } }
  }
}`;
const ADJUST = `mutation ($id: ID!, $by: Int!, $expectedVersion: Int) {
  stockAdjust(id: $id, by: $by, expectedVersion: $expectedVersion) {
    __typename ... on Refusal { code message } ... on OutOfStock { products { productId requested available } }
    ... on StockAdjustSuccess { product { id version stock } }
  }
}`;

const spoon = { sku: '22196', title: ' SMALL HEART MEASURING SPOONS ', price: { amount: '0.85', currency: 'GBP' } };

describe.each(['postgres', 'pglite'] as const)('products on %s', (kind) => {
  let engine: TestEngine;
  let store: ReturnType<typeof createStoreClient>;
  let skus = 0;

  beforeAll(async () => {
    engine = await openTestEngine({ kind, domain });
    store = createStoreClient(engine);
  });
  afterAll(() => engine.close());

  const newSku = () => `T-${++skus}`;
  const create = (input: object) => store.change('productCreate', CREATE, { variables: { input } });
  const update = (input: object) => store.change('productUpdate', UPDATE, { variables: { input } });
  const adjust = (variables: Record<string, unknown>) => store.change('stockAdjust', ADJUST, { variables });

  async function created(): Promise<string> {
    const { product } = await create({ ...spoon, sku: newSku(), stock: 5 });
    return product?.id ?? '';
  }

  async function eventsOf(id: string) {
    return (await engine.stampedEvents()).filter(({ subjectId }) => subjectId === id);
  }

  it('are created, with an event that says all of them', async () => {
    const outcome = await create({ ...spoon, stock: 24 });
    expect(outcome).toMatchObject({
      __typename: 'ProductCreateSuccess',
      product: { version: 1, sku: '22196', title: 'SMALL HEART MEASURING SPOONS', price: spoon.price, stock: 24 },
    });
    const id = outcome.product?.id ?? '';
    expect(id).toMatch(/^prod_[0-9a-f]{32}$/);
    expect(await eventsOf(id)).toMatchObject([
      {
        name: 'product.created',
        subjectType: 'Product',
        subjectVersion: 1,
        changed: [],
        related: [],
        actor: 'key_test',
        requestId: 'request-1',
        payload: {
          product: {
            productId: id,
            version: 1,
            sku: '22196',
            title: 'SMALL HEART MEASURING SPOONS',
            price: spoon.price,
            stock: 24,
          },
        },
      },
    ]);
  });

  it('refuse a sku that another has, on both ways to it', async () => {
    const sku = newSku();
    await create({ ...spoon, sku });
    expect(await create({ ...spoon, sku })).toMatchObject({ __typename: 'SkuTaken', code: 'SKU_TAKEN', sku });
    expect(await update({ id: await created(), sku })).toMatchObject({ __typename: 'SkuTaken' });
  });

  it('are found by sku and by id', async () => {
    const sku = newSku();
    const { product } = await create({ ...spoon, sku });
    const found = await engine.run<Record<string, { id: string } | null>>(
      `query ($sku: String!, $id: ID!) {
        productBySku(sku: $sku) { id } product(id: $id) { id } node(id: $id) { id } none: productBySku(sku: "none") { id }
      }`,
      { variables: { sku, id: product?.id } },
    );
    expect(found).toMatchObject({
      productBySku: { id: product?.id },
      product: { id: product?.id },
      node: { id: product?.id },
      none: null,
    });
  });

  it('tell which fields an update changed, and nothing if none did', async () => {
    const id = await created();
    const price = { amount: '1.00', currency: 'GBP' };
    expect(await update({ id, title: 'SPOONS', price })).toMatchObject({
      product: { version: 2, title: 'SPOONS', price },
    });
    expect(await update({ id, title: ' SPOONS' })).toMatchObject({ product: { version: 2 } });
    expect(await eventsOf(id)).toMatchObject([
      { name: 'product.created' },
      {
        name: 'product.updated',
        subjectVersion: 2,
        changed: ['title', 'price'],
        payload: { product: { version: 2, title: 'SPOONS', price } },
      },
    ]);
  });

  it('give a change that emitted nothing the head as its cursor', async () => {
    const id = await created();
    await engine.stampedEvents();
    const { cursor } = await update({ id });
    const { head } = await engine.run<{ head: string }>('{ head }');
    expect(cursor).toBe(head);
  });

  it('refuse an update of another version than expected, and change nothing', async () => {
    const id = await created();
    expect(await update({ id, title: 'A', expectedVersion: 1 })).toMatchObject({ product: { version: 2 } });
    expect(await update({ id, title: 'B', expectedVersion: 1 })).toMatchObject({
      __typename: 'VersionConflict',
      id,
      expectedVersion: 1,
      currentVersion: 2,
    });
    expect(await adjust({ id, by: 1, expectedVersion: 1 })).toMatchObject({ __typename: 'VersionConflict' });
    expect(await eventsOf(id)).toHaveLength(2);
  });

  it('have their stock adjusted, never below zero', async () => {
    const id = await created();
    expect(await adjust({ id, by: 3 })).toMatchObject({ product: { stock: 8, version: 2 } });
    expect(await adjust({ id, by: -9 })).toMatchObject({
      __typename: 'OutOfStock',
      products: [{ productId: id, requested: 9, available: 8 }],
    });
    expect(await adjust({ id, by: 0 })).toMatchObject({ product: { stock: 8, version: 2 } });
    expect((await eventsOf(id)).slice(1)).toMatchObject([
      { name: 'stock.changed', changed: ['stock'], payload: { stock: 8, by: 3, reason: 'ADJUSTED', orderId: null } },
    ]);
  });

  it.each<[string, object, string]>([
    ['a sku of blanks', { sku: '  ' }, 'sku: expected 1 to 64 visible ASCII characters'],
    ['a sku with a quote', { sku: 'a"b' }, 'no quotes'],
    ['a sku that is too long', { sku: 'a'.repeat(65) }, 'sku: expected 1 to 64'],
    ['an empty title', { title: ' ' }, 'title: expected 1 to 200 characters, found 0'],
    ['a title of 201', { title: 'a'.repeat(201) }, 'title: expected 1 to 200 characters, found 201'],
    ['a title with a zero byte', { title: 'a\u0000b' }, 'title: expected visible characters'],
    ['a title with half a character', { title: 'a\ud800b' }, 'title: expected visible characters'],
    ['a stock below zero', { stock: -1 }, 'stock: expected 0 to 2147483647, found -1'],
    ['a price below zero', { price: { amount: '-1', currency: 'GBP' } }, 'price.amount: expected 0 or more'],
    ['a price in no currency', { price: { amount: '1', currency: 'AAA' } }, 'price.currency: expected an ISO 4217'],
  ])('refuse %s, with one clear message', async (_what, fault, message) => {
    const input = { ...spoon, sku: newSku(), ...fault };
    expect(await engine.fail(CREATE, { variables: { input } })).toEqual({
      code: 'BAD_INPUT',
      message: expect.stringContaining(message),
    });
  });

  it('refuse null for what must have a value', async () => {
    const id = await created();
    expect(await engine.fail(UPDATE, { variables: { input: { id, title: null } } })).toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringContaining('title: expected a value, found null'),
    });
  });

  it('do not overflow their stock', async () => {
    const id = await created();
    const fault = await engine.fail(ADJUST, { variables: { id, by: 2 ** 31 - 1 } });
    expect(fault).toMatchObject({ code: 'BAD_INPUT', message: expect.stringContaining('at most 2147483647') });
  });

  it('answer an id that is nobody with NOT_FOUND, also with an expected version', async () => {
    const id = `prod_${'0'.repeat(32)}`;
    const input = { id, title: 'A', expectedVersion: 3 };
    expect(await engine.fail(UPDATE, { variables: { input } })).toMatchObject({ code: 'NOT_FOUND' });
    expect(await engine.fail(ADJUST, { variables: { id: 'x'.repeat(5_000), by: 1 } })).toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('need their scopes', async () => {
    const id = await created();
    const readsOnly = { scopes: ['products:read'] };
    expect(await engine.fail(ADJUST, { ...readsOnly, variables: { id, by: 1 } })).toEqual({
      code: 'FORBIDDEN',
      message: 'this needs the scope "products:write"',
    });
    expect(await engine.fail('{ products { nodes { id } } }', { scopes: [] })).toMatchObject({ code: 'FORBIDDEN' });
  });

  it('let an edge of an event lead to their current state', async () => {
    const id = await created();
    await update({ id, title: 'NEW' });
    const [event] = await eventsOf(id);
    const data = await engine.run<{
      event: Outcome & { currentProduct: { title: string }; product: { title: string } };
    }>('query ($id: ID!) { event(id: $id) { ... on ProductCreated { product { title } currentProduct { title } } } }', {
      variables: { id: event?.id },
    });
    expect(data.event).toEqual({
      product: { title: 'SMALL HEART MEASURING SPOONS' },
      currentProduct: { title: 'NEW' },
    });
  });
});
