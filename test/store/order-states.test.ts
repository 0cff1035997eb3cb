import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { createStoreClient } from './store-client.ts';

/** The states and moves, written down a second time: a copy of the code's table would prove nothing. */
const MODEL: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  PLACED: { Pay: 'PAID', Cancel: 'CANCELLED' },
  PAID: { Ship: 'SHIPPED', Cancel: 'CANCELLED' },
  SHIPPED: { Deliver: 'DELIVERED' },
  DELIVERED: {},
  CANCELLED: {},
};
const TARGET = { Pay: 'PAID', Ship: 'SHIPPED', Deliver: 'DELIVERED', Cancel: 'CANCELLED' } as const;
const EVENT = { Pay: 'order.paid', Ship: 'order.shipped', Deliver: 'order.delivered', Cancel: 'order.cancelled' };
type Move = keyof typeof TARGET;

const MOVES = Object.keys(TARGET) as Move[];

describe('an order', () => {
  let engine: TestEngine;
  let store: ReturnType<typeof createStoreClient>;
  let productId: string;

  beforeAll(async () => {
    engine = await openTestEngine({ kind: 'postgres', domain });
    store = createStoreClient(engine);
    productId = await store.createProduct({ stock: 1_000 });
  });
  afterAll(() => engine.close());

  async function place(): Promise<string> {
    const { order } = await store.place([
      { productId, quantity: 2 },
      { productId, quantity: 1 },
    ]);
    return order?.id ?? '';
  }

  it('moves as the model does, whatever is asked of it', async () => {
    const emittedBy = new Map<string, readonly string[]>();
    const moves = fc.array(fc.constantFrom(...MOVES), { minLength: 1, maxLength: 8 });
    const property = fc.asyncProperty(moves, async (each) => {
      const stock = await store.stockOf(productId);
      const id = await place();
      const emitted = await walk(id, each);
      emittedBy.set(id, emitted);
      const isCancelled = emitted.at(-1) === 'order.cancelled';
      expect(await store.stockOf(productId)).toBe(isCancelled ? stock : stock - 3);
    });
    await fc.assert(property, { numRuns: 30 });

    const events = Map.groupBy(await engine.stampedEvents(), ({ subjectId }) => subjectId);
    for (const [id, emitted] of emittedBy) {
      expect(events.get(id)).toMatchObject(
        ['order.placed', ...emitted].map((name, index) => ({
          name,
          subjectVersion: index + 1,
          payload: { order: { orderId: id, version: index + 1 } },
        })),
      );
    }
  });

  /** Makes the moves, compares each answer with the model, and gives the events that must have been emitted. */
  async function walk(id: string, moves: readonly Move[]): Promise<string[]> {
    const emitted: string[] = [];
    let state = 'PLACED';
    for (const move of moves) {
      const outcome = await store.move(move, id);
      const next = MODEL[state]?.[move];
      if (next === undefined) {
        const allowed = Object.values(MODEL[state] ?? {});
        expect(outcome).toEqual({
          __typename: 'OrderMoveRefused',
          code: 'ORDER_MOVE_REFUSED',
          message: `the order is ${state} and can't become ${TARGET[move]}; allowed: ${allowed.join(', ') || 'no move'}`,
          from: state,
          to: TARGET[move],
          allowed,
        });
      } else {
        emitted.push(EVENT[move]);
        expect(outcome).toMatchObject({ order: { id, state: next, version: emitted.length + 1 } });
        state = next;
      }
    }
    return emitted;
  }

  it('gives its goods back when it is cancelled, and says so of each product', async () => {
    const id = await place();
    await store.move('Cancel', id);
    const [cancelled, stock] = (await engine.stampedEvents()).slice(-2);
    expect(cancelled).toMatchObject({ name: 'order.cancelled', payload: { order: { state: 'CANCELLED' } } });
    expect(stock).toMatchObject({
      name: 'stock.changed',
      subjectId: productId,
      payload: { by: 3, reason: 'ORDER_CANCELLED', orderId: id },
    });
  });

  it('refuses a move from another version than expected', async () => {
    const id = await place();
    expect(await store.move('Pay', id, 1)).toMatchObject({ order: { version: 2 } });
    expect(await store.move('Ship', id, 1)).toMatchObject({
      __typename: 'VersionConflict',
      message: `expected version 1 of ${id}, found 2; read it again`,
    });
  });

  it('tells the stale from the impossible: the version is looked at first', async () => {
    const id = await place();
    await store.move('Cancel', id);
    expect(await store.move('Pay', id, 1)).toMatchObject({ __typename: 'VersionConflict' });
    expect(await store.move('Pay', id, 2)).toMatchObject({ __typename: 'OrderMoveRefused', allowed: [] });
  });
});
