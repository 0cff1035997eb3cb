import { serveMethods } from '../../test/support/worker.ts';
import { type Client, createClient, type Target } from './client.ts';
import { repeatedly, steadily, type Throughput } from './pace.ts';
import { createProducts, ORDER_PLACE, productsOf, STOCK_ADJUST } from './store.ts';

export interface SteadyLoad {
  readonly productIds: readonly string[];
  readonly perSecond: number;
  readonly count: number;
}

export interface ClosedLoad {
  readonly productIds: readonly string[];
  /** Calls under way at any time. */
  readonly concurrency: number;
  readonly seconds: number;
}

/** Asks one server for mutations; each answer is checked. */
export function createLoad() {
  let client: Client | undefined;
  let orders = 0;

  function connected(): Client {
    if (client === undefined) throw new Error('call connect first');
    return client;
  }

  return {
    connect(target: Target, connections: number): void {
      client = createClient(target, connections);
    },
    createProducts: (count: number): Promise<string[]> => createProducts(connected(), count),
    /** Calls at fixed times, whether those before were answered or not. @returns how late the latest began, in ms */
    async adjustSteadily({ productIds, perSecond, count }: SteadyLoad): Promise<number> {
      return steadily({ perSecond, count }, (at) =>
        connected().ask(STOCK_ADJUST, { id: productIds[at % productIds.length] }),
      );
    },
    /** Each of so many callers calls again once it was answered. */
    async placeOrders({ productIds, concurrency, seconds }: ClosedLoad): Promise<Throughput> {
      return repeatedly({ concurrency, seconds }, async () => {
        const lines = productsOf(orders++, productIds).map((productId) => ({ productId, quantity: 1 }));
        await connected().ask(ORDER_PLACE, { input: { lines } });
      });
    },
  };
}

export type Load = ReturnType<typeof createLoad>;

if (import.meta.main) serveMethods(createLoad());
