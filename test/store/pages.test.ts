import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

const ORDERS = `query ($first: Int, $after: String, $last: Int, $before: String) {
  orders(first: $first, after: $after, last: $last, before: $before) {
    nodes {
      id version state total { amount currency } placedAt
      customer { id version name }
      lines { number quantity unitPrice { amount } product { id version title stock } }
    }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}`;

interface OrdersPage {
  readonly orders: {
    readonly nodes: readonly { readonly id: string; readonly lines: readonly { readonly quantity: number }[] }[];
    readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
  };
}

describe('a page of orders', () => {
  let engine: TestEngine;
  const placed: string[] = [];

  beforeAll(async () => {
    engine = await openTestEngine({ kind: 'postgres', domain });
    const store = createStoreClient(engine);
    for (let each = 1; each <= 12; each++) {
      const customerId = await store.createCustomer();
      const lines = [
        { productId: await store.createProduct(), quantity: each },
        { productId: await store.createProduct(), quantity: 1 },
      ];
      const { order } = await store.place(
        lines.map((line) => ({ ...line, quantity: Math.min(line.quantity, 10) })),
        { customerId },
      );
      placed.push(order?.id ?? '');
    }
  });
  afterAll(() => engine.close());

  const read = (variables: Record<string, unknown>) => engine.run<OrdersPage>(ORDERS, { variables });

  it('takes as many statements for ten orders as for one', async () => {
    engine.countReads();
    const one = await read({ first: 1 });
    const statements = engine.countReads();
    const ten = await read({ first: 10 });
    expect(engine.countReads()).toBe(statements);
    // orders, customers, lines, products; and for each entity the versions, and the rows once more after them
    expect(statements).toBeLessThanOrEqual(10);
    expect(one.orders.nodes).toHaveLength(1);
    expect(ten.orders.nodes.map(({ lines }) => lines.length)).toEqual(Array(10).fill(2));
  });

  it('goes on behind its end, without gap or repeat', async () => {
    const seen: string[] = [];
    for (let after: string | null = null, more = true; more; ) {
      const { orders }: OrdersPage = await read({ first: 5, after });
      seen.push(...orders.nodes.map(({ id }) => id));
      after = orders.pageInfo.endCursor;
      more = orders.pageInfo.hasNextPage;
    }
    expect(seen).toEqual(placed);
    const { orders } = await read({ last: 3 });
    expect(orders.nodes.map(({ id }) => id)).toEqual(placed.slice(-3));
  });

  it('is refused above 100, and from a cursor that is none', async () => {
    expect(await engine.fail(ORDERS, { variables: { first: 101 } })).toMatchObject({ code: 'BAD_INPUT' });
    expect(await engine.fail(ORDERS, { variables: { after: 'x' } })).toMatchObject({ code: 'INVALID_CURSOR' });
  });
});
