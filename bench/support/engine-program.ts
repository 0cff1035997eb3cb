import { placeOrder } from '../../schema/order/orders.ts';
import type { Tables } from '../../schema/tables.ts';
import { connectPostgres } from '../../src/database/connect.ts';
import { createTransact, type Transact } from '../../src/outbox/transact.ts';
import { newId } from '../../src/runtime/id.ts';
import { serveMethods } from '../../test/support/worker.ts';
import type { ClosedLoad } from './load-program.ts';
import { repeatedly, type Throughput } from './pace.ts';
import { productsOf } from './store.ts';

const AUTHOR = { accountId: 'acc_default', actor: 'key_bench', requestId: 'req_bench', causedBy: null };
/** Those of the account guard that an order touches. */
const ACCOUNT_TABLES = ['products', 'customers', 'orders', 'order_lines', 'fanfare.subject', 'fanfare.event'];

/** `orderPlace` without HTTP and GraphQL: the domain's function in the engine's transaction. */
export function createEngineLoad() {
  let transact: Transact<Tables> | undefined;
  let orders = 0;

  async function place(productIds: readonly string[]): Promise<void> {
    if (transact === undefined) throw new Error('call open first');
    const lines = productIds.map((productId) => ({ productId, quantity: 1 }));
    await transact(AUTHOR, (tx) => placeOrder(tx, { lines }, { maySetPrices: true }));
  }

  return {
    async open({ databaseUrl, connections }: { databaseUrl: string; connections: number }): Promise<void> {
      const database = await connectPostgres({ url: databaseUrl, maxConnections: connections });
      transact = createTransact({
        database,
        accountTables: new Set(ACCOUNT_TABLES),
        newId: (entity) => newId(entity.toLowerCase()),
        onCaptured: () => {}, // the relay polls: its hints are not what is measured here
      });
    },
    placeOrders: ({ productIds, concurrency, seconds }: ClosedLoad): Promise<Throughput> =>
      repeatedly({ concurrency, seconds }, () => place(productsOf(orders++, productIds))),
  };
}

export type EngineLoad = ReturnType<typeof createEngineLoad>;

if (import.meta.main) serveMethods(createEngineLoad());
