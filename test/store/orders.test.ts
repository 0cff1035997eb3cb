import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

const gbp = (amount: string) => ({ amount, currency: 'GBP' });
const NOBODY = '0'.repeat(32);

describe.each(['postgres', 'pglite'] as const)('orders on %s', (kind) => {
  let engine: TestEngine;
  let store: ReturnType<typeof createStoreClient>;

  beforeAll(async () => {
    engine = await openTestEngine({ kind, domain });
    store = createStoreClient(engine);
  });
  afterAll(() => engine.close());

  it('are placed with several lines of one product, and take all of them out of stock', async () => {
    const [spoon, clock, customerId] = [
      await store.createProduct({ stock: 10, price: '0.85' }),
      await store.createProduct({ stock: 3, price: '3.75' }),
      await store.createCustomer(),
    ];
    const { order } = await store.place(
      [
        { productId: spoon, quantity: 4 },
        { productId: clock, quantity: 3 },
        { productId: spoon, quantity: 6, unitPrice: gbp('0.42') },
      ],
      { customerId },
    );
    expect(order).toMatchObject({ version: 1, state: 'PLACED', total: gbp('17.17') });
    expect(await Promise.all([store.stockOf(spoon), store.stockOf(clock)])).toEqual([0, 0]);

    const caused = (await engine.stampedEvents()).slice(-3);
    const orderId = order?.id ?? '';
    const stock = { stock: 0, reason: 'ORDER_PLACED', orderId };
    const lines = [
      { number: 1, productId: spoon, quantity: 4, unitPrice: gbp('0.85') },
      { number: 2, productId: clock, quantity: 3, unitPrice: gbp('3.75') },
      { number: 3, productId: spoon, quantity: 6, unitPrice: gbp('0.42') },
    ];
    expect(caused).toMatchObject([
      {
        name: 'order.placed',
        subjectId: orderId,
        subjectVersion: 1,
        changed: [],
        payload: { order: { orderId, version: 1, state: 'PLACED', customerId, total: gbp('17.17'), lines } },
      },
      {
        name: 'stock.changed',
        subjectId: spoon,
        subjectVersion: 2,
        changed: ['stock'],
        payload: { by: -10, ...stock },
      },
      { name: 'stock.changed', subjectId: clock, subjectVersion: 2, changed: ['stock'], payload: { by: -3, ...stock } },
    ]);
    expect([...(caused[0]?.related ?? [])].sort()).toEqual([customerId, spoon, clock].sort());
    expect(caused[1]?.related).toEqual([]);
    expect(caused.map(({ causedBy }) => causedBy)).toEqual([null, caused[0]?.id, caused[0]?.id]);
  });

  it('are placed by guests', async () => {
    const productId = await store.createProduct();
    const { order } = await store.place([{ productId, quantity: 1 }]);
    const data = await engine.run<object>('query ($id: ID!) { order(id: $id) { customer { id } lines { sku } } }', {
      variables: { id: order?.id },
    });
    expect(data).toMatchObject({ order: { customer: null, lines: [{}] } });
    const placed = (await engine.stampedEvents()).find(({ subjectId }) => subjectId === order?.id);
    expect(placed).toMatchObject({ related: [productId], payload: { order: { customerId: null } } });
  });

  it('keep the sku, title and price of a product as they were', async () => {
    const productId = await store.createProduct({ price: '2.50' });
    const { order } = await store.place([{ productId, quantity: 2 }]);
    await store.change(
      'productUpdate',
      'mutation ($input: ProductUpdateInput!) { productUpdate(input: $input) { __typename } }',
      { variables: { input: { id: productId, title: 'NEW', price: gbp('9.99') } } },
    );
    const data = await engine.run<object>(
      'query ($id: ID!) { order(id: $id) { total { amount } lines { number title unitPrice { amount currency } quantity product { title } } } }',
      { variables: { id: order?.id } },
    );
    const line = { number: 1, title: expect.stringMatching(/^Product/), unitPrice: gbp('2.50'), quantity: 2 };
    expect(data).toEqual({ order: { total: { amount: '5.00' }, lines: [{ ...line, product: { title: 'NEW' } }] } });
  });

  it('name all products that lack, and leave nothing half-done', async () => {
    const [one, two, plenty] = [
      await store.createProduct({ stock: 1 }),
      await store.createProduct({ stock: 2 }),
      await store.createProduct({ stock: 100 }),
    ];
    const [before, orders] = [(await engine.stampedEvents()).length, await countOrders(engine)];
    const refused = await store.place([
      { productId: plenty, quantity: 5 },
      { productId: one, quantity: 1 },
      { productId: two, quantity: 3 },
      { productId: one, quantity: 1 },
    ]);
    expect(refused).toMatchObject({
      __typename: 'OutOfStock',
      code: 'OUT_OF_STOCK',
      message: expect.stringMatching(/not enough in stock of SKU-\d+ \(1 of 2\), SKU-\d+ \(2 of 3\)/),
    });
    expect(refused.products).toEqual([
      { productId: one, requested: 2, available: 1 },
      { productId: two, requested: 3, available: 2 },
    ]);
    expect(await store.stockOf(plenty)).toBe(100);
    expect(await engine.stampedEvents()).toHaveLength(before);
    expect(await countOrders(engine)).toBe(orders);
  });

  it('refuse lines of several currencies', async () => {
    const productId = await store.createProduct();
    const euro = { amount: '1.00', currency: 'EUR' };
    const refused = await store.place([
      { productId, quantity: 1 },
      { productId, quantity: 1, unitPrice: euro },
    ]);
    expect(refused).toMatchObject({ __typename: 'CurrencyMixed', code: 'CURRENCY_MIXED' });
    expect(await store.place([{ productId, quantity: 1, unitPrice: euro }])).toMatchObject({ order: { total: euro } });
  });

  it('take a price of their own only with the scope for it', async () => {
    const productId = await store.createProduct();
    const scopes = ['orders:read', 'orders:write'];
    const input = { lines: [{ productId, quantity: 1, unitPrice: gbp('0.01') }] };
    expect(await engine.fail(store.placeDocument, { scopes, variables: { input } })).toEqual({
      code: 'FORBIDDEN',
      message: expect.stringContaining('lines.0.unitPrice needs the scope "orders:price"'),
    });
    expect(await store.place([{ productId, quantity: 1 }], { scopes })).toMatchObject({
      order: { total: gbp('2.50') },
    });
  });

  it('have a scope for prices that a key can be given', () => {
    expect([...engine.services.registry.scopes]).toContain('orders:price');
  });

  it.each<[string, (productId: string) => object, string, string]>([
    ['no line', () => ({ lines: [] }), 'BAD_INPUT', 'lines: expected 1 to 1000, found 0'],
    [
      'a quantity of 0',
      (productId) => ({ lines: [{ productId, quantity: 0 }] }),
      'BAD_INPUT',
      'lines.0.quantity: expected 1 to 1000000, found 0',
    ],
    ['a quantity below zero', (productId) => ({ lines: [{ productId, quantity: -4 }] }), 'BAD_INPUT', 'found -4'],
    [
      'an absurd quantity',
      (productId) => ({ lines: [{ productId, quantity: 1_000_001 }] }),
      'BAD_INPUT',
      'found 1000001',
    ],
    [
      'an unknown product',
      () => ({ lines: [{ productId: `prod_${NOBODY}`, quantity: 1 }] }),
      'NOT_FOUND',
      `there is no product with the id "prod_${NOBODY}"`,
    ],
    [
      'an unknown customer',
      (productId) => ({ customerId: `cust_${NOBODY}`, lines: [{ productId, quantity: 1 }] }),
      'NOT_FOUND',
      'there is no customer',
    ],
    [
      'a total beyond 2^53',
      (productId) => ({ lines: [{ productId, quantity: 1_000_000, unitPrice: gbp('90071992547409.91') }] }),
      'BAD_INPUT',
      'total: expected less than 2^53',
    ],
    [
      'a price with too many digits',
      (productId) => ({ lines: [{ productId, quantity: 1, unitPrice: gbp('1.001') }] }),
      'BAD_INPUT',
      'lines.0.unitPrice.amount: expected 0 or more with at most 2 digits',
    ],
  ])('refuse %s, with one clear message', async (_what, faulty, code, message) => {
    const input = faulty(await store.createProduct({ stock: 2_000_000 }));
    const before = (await engine.stampedEvents()).length;
    expect(await engine.fail(store.placeDocument, { variables: { input } })).toEqual({
      code,
      message: expect.stringContaining(message),
    });
    expect(await engine.stampedEvents()).toHaveLength(before);
  });

  it('are listed by customer and by state', async () => {
    const [customerId, productId] = [await store.createCustomer(), await store.createProduct()];
    const first = await store.place([{ productId, quantity: 1 }], { customerId });
    const second = await store.place([{ productId, quantity: 1 }], { customerId });
    await store.move('Pay', second.order?.id ?? '');
    const data = await engine.run<object>(
      `query ($customerId: ID!) {
        all: orders(customerId: $customerId) { nodes { id } }
        paid: orders(customerId: $customerId, state: PAID) { nodes { id } }
      }`,
      { variables: { customerId } },
    );
    expect(data).toEqual({
      all: { nodes: [{ id: first.order?.id }, { id: second.order?.id }] },
      paid: { nodes: [{ id: second.order?.id }] },
    });
  });
});

async function countOrders({ services }: TestEngine): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*) as count from orders`.execute(services.database.db);
  return rows[0]?.count ?? 0;
}
