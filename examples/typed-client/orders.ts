// The folder src/client imports nothing of ours: elsewhere, copy it and install graphql-ws and graphql.
import { watch } from '#client';
import { ask, type Server } from './ask.ts';
import {
  type PlacedOrderFragment,
  PulledOrdersDocument,
  type PulledOrdersQuery,
  WatchedOrdersDocument,
  type WatchedOrdersSubscription,
} from './documents.ts';

export type PlacedOrder = PlacedOrderFragment;

/** Pull: all orders placed behind a cursor, or all that are kept, page by page. */
export async function* pullOrders(server: Server, after?: string): AsyncGenerator<PlacedOrder> {
  for (let cursor: string | null | undefined = after; cursor !== null; ) {
    const page: PulledOrdersQuery = await ask(server, PulledOrdersDocument, { after: cursor });
    const { nodes, pageInfo } = page.events;
    for (const event of nodes) if (event.__typename === 'OrderPlaced') yield event;
    cursor = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  }
}

export interface OrderWatch {
  /** Awaited before the next order: keep its `cursor` with what you made of it, to go on there after a restart. */
  readonly onOrder: (order: PlacedOrder) => void | Promise<void>;
  /** Begin behind this cursor. @default from now on */
  readonly after?: string | undefined;
  readonly signal: AbortSignal;
}

/** Watch: each order as it is placed, over broken connections without loss or repeat. Resolves when the signal aborts. */
export function watchOrders(server: Server, { onOrder, after, signal }: OrderWatch): Promise<void> {
  return watch({
    ...server,
    query: WatchedOrdersDocument.toString(),
    after,
    signal,
    async onEvent({ data, errors = [] }) {
      if (data === null) throw new Error(errors[0]?.message);
      // a result of that document
      await onOrder((data as WatchedOrdersSubscription).orderPlaced);
    },
  });
}
