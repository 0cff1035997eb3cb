import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import type { Tx } from '#engine';
import { cancelOrder } from '../../schema/order/moves.ts';
import { placeOrder } from '../../schema/order/orders.ts';
import type { Tables } from '../../schema/tables.ts';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient, type Outcome } from './store-client.ts';

describe('buyers at the same time', () => {
  let engine: TestEngine;
  let store: ReturnType<typeof createStoreClient>;

  beforeAll(async () => {
    engine = await openTestEngine({ kind: 'postgres', domain, maxConnections: 60 });
    store = createStoreClient(engine);
  });
  afterAll(() => engine.close());

  const author = { accountId: 'acc_default', actor: null, requestId: null, causedBy: null };
  const transact = <R>(work: (tx: Tx<Tables>) => Promise<R>) =>
    // the engine does not know the domain's tables
    engine.services.transact(author, (tx) => work(tx as unknown as Tx<Tables>));

  const buy = (buyers: number, productId: string): Promise<Outcome[]> =>
    Promise.all(Array.from({ length: buyers }, () => store.place([{ productId, quantity: 1 }])));

  it('get the last item once', async () => {
    const productId = await store.createProduct({ stock: 1 });
    const outcomes = await buy(2, productId);
    expect(outcomes.map(({ __typename }) => __typename).sort()).toEqual(['OrderPlaceSuccess', 'OutOfStock']);
    expect(outcomes.find(({ code }) => code)).toMatchObject({ products: [{ productId, requested: 1, available: 0 }] });
  });

  it('get as many as there are: 50 buyers, 10 items', async () => {
    const productId = await store.createProduct({ stock: 10 });
    const outcomes = await buy(50, productId);
    expect(outcomes.filter(({ __typename }) => __typename === 'OrderPlaceSuccess')).toHaveLength(10);
    expect(outcomes.filter(({ __typename }) => __typename === 'OutOfStock')).toHaveLength(40);
    expect(await store.stockOf(productId)).toBe(0);

    const events = await engine.stampedEvents();
    const left = events.filter(({ name, subjectId }) => name === 'stock.changed' && subjectId === productId);
    expect(left.map(({ payload }) => payload.stock)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    expect(left.map(({ subjectVersion }) => subjectVersion)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it('get more than there are where stock is only looked at (negative control)', async () => {
    const productId = await store.createProduct({ stock: 1 });
    let looked = 0;
    const bothLooked = Promise.withResolvers<void>();
    const buyNaively = () =>
      engine.services.database.transaction(async (tx) => {
        const { rows } = await sql<{ stock: number }>`select stock from products where id = ${productId}`.execute(tx);
        if (++looked === 2) bothLooked.resolve();
        await bothLooked.promise;
        const isThere = (rows[0]?.stock ?? 0) > 0;
        await sql`update products set stock = 0 where id = ${productId}`.execute(tx);
        return isThere;
      });
    expect(await Promise.all([buyNaively(), buyNaively()])).toEqual([true, true]);
  });

  it('do not wait for each other crosswise, so that none has to try again', async () => {
    const ids = [await store.createProduct({ stock: 100 }), await store.createProduct({ stock: 100 })];
    const lines = ids.map((productId) => ({ productId, quantity: 1 }));
    let attempts = 0;
    const place = (each: number) =>
      transact((tx) => {
        attempts++;
        return placeOrder(tx, { lines: each % 2 === 0 ? lines : lines.toReversed() }, { maySetPrices: false });
      });
    const placed = await Promise.all(Array.from({ length: 40 }, (_, each) => place(each)));
    const cancel = (id: string) =>
      transact((tx) => {
        attempts++;
        return cancelOrder(tx, { id });
      });
    await Promise.all([...placed.slice(0, 20).map(({ result }) => cancel(result.order.id)), place(0), place(1)]);
    expect(await Promise.all(ids.map(store.stockOf))).toEqual([78, 78]);
    expect(attempts).toBe(62);
  });

  it('try again where each locks in an order of its own (negative control)', async () => {
    const ids = [await store.createProduct(), await store.createProduct()];
    let attempts = 0;
    const bothHoldOne = Promise.withResolvers<void>();
    const winnerIsDone = Promise.withResolvers<void>();
    const lockAll = (order: readonly string[]) =>
      transact(async (tx) => {
        const attempt = ++attempts;
        // the loser's second try could be quick enough to take its first row before the winner has got it
        if (attempt > 2) await winnerIsDone.promise;
        for (const id of order) {
          await tx.lockRow('products', id);
          if (attempt === 2) bothHoldOne.resolve();
          await bothHoldOne.promise;
        }
      }).then(() => winnerIsDone.resolve());
    await Promise.all([lockAll(ids), lockAll(ids.toReversed())]);
    expect(attempts).toBe(3);
  });

  it('of one order move it once', async () => {
    const productId = await store.createProduct();
    const { order } = await store.place([{ productId, quantity: 1 }]);
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => store.move('Pay', order?.id ?? '')));
    expect(outcomes.filter(({ __typename }) => __typename === 'OrderPaySuccess')).toHaveLength(1);
    expect(outcomes.filter(({ from }) => from === 'PAID')).toHaveLength(9);
  });
});
