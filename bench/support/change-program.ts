import { adjustStock, lockProducts, moveStock } from '../../schema/product/stock.ts';
import { serveMethods } from '../../test/support/worker.ts';
import type { SteadyLoad } from './load-program.ts';
import { type OpenEngine, openEngine } from './open-engine.ts';
import { steadily } from './pace.ts';

const AUTHOR = { accountId: 'acc_default', actor: 'key_bench', requestId: 'req_bench', causedBy: null };

/** `stockAdjust` without HTTP and GraphQL: stores, transaction and hint are those that the role `api` makes. */
export function createChangeLoad() {
  let engine: OpenEngine | undefined;

  function opened(): OpenEngine {
    if (engine === undefined) throw new Error('call open first');
    return engine;
  }

  return {
    /** @param env the settings of the processes whose database it changes */
    async open(env: Readonly<Record<string, string>>): Promise<void> {
      engine = await openEngine(env);
    },
    /** Begins changes at fixed times, one event each, whether those before were done or not. @returns how late the latest began, in ms */
    adjustSteadily({ productIds, perSecond, count }: SteadyLoad): Promise<number> {
      const { transact } = opened();
      const idAt = (at: number) => productIds[at % productIds.length] ?? '';
      return steadily({ perSecond, count }, (at) => transact(AUTHOR, (tx) => adjustStock(tx, { id: idAt(at), by: 1 })));
    },
    /** One transaction with one event for each product. */
    async adjustTogether(productIds: readonly string[]): Promise<void> {
      await opened().transact(AUTHOR, async (tx) => {
        const products = await lockProducts(tx, productIds);
        const moves = [...products.values()].map((product) => ({ product, by: 1 }));
        await moveStock(tx, moves, { reason: 'ADJUSTED', orderId: null });
      });
    },
  };
}

export type ChangeLoad = ReturnType<typeof createChangeLoad>;

if (import.meta.main) serveMethods(createChangeLoad());
