import { Refusal, type Tx } from '#engine';
import { lockProducts, moveStock, type StockCause } from '../product/stock.ts';
import type { OrderRow, Tables } from '../tables.ts';
import { orderCancelled, orderDelivered, orderPaid, orderShipped } from './events.ts';
import { orderFacts, readLines, sumByProduct } from './orders.ts';

export type State = OrderRow['state'];

/** From each state, the states that an order may move to. */
export const MOVES: Readonly<Record<State, readonly State[]>> = {
  PLACED: ['PAID', 'CANCELLED'],
  PAID: ['SHIPPED', 'CANCELLED'],
  SHIPPED: ['DELIVERED'],
  DELIVERED: [],
  CANCELLED: [],
};

export class OrderMoveRefused extends Refusal {
  static override readonly code = 'ORDER_MOVE_REFUSED';
  readonly from: State;
  readonly to: State;
  readonly allowed: readonly State[];
  constructor(from: State, to: State) {
    const allowed = MOVES[from];
    super(`the order is ${from} and can't become ${to}; allowed: ${allowed.join(', ') || 'no move'}`);
    this.from = from;
    this.to = to;
    this.allowed = allowed;
  }
}

export interface OrderMove {
  readonly id: string;
  readonly expectedVersion?: number | null | undefined;
}

export const payOrder = (tx: Tx<Tables>, move: OrderMove) => moveOrder(tx, move, 'PAID');
export const shipOrder = (tx: Tx<Tables>, move: OrderMove) => moveOrder(tx, move, 'SHIPPED');
export const deliverOrder = (tx: Tx<Tables>, move: OrderMove) => moveOrder(tx, move, 'DELIVERED');
export const cancelOrder = (tx: Tx<Tables>, move: OrderMove) => moveOrder(tx, move, 'CANCELLED');

const EVENT = { PAID: orderPaid, SHIPPED: orderShipped, DELIVERED: orderDelivered, CANCELLED: orderCancelled };

async function moveOrder(tx: Tx<Tables>, { id, expectedVersion }: OrderMove, state: keyof typeof EVENT) {
  const before = await tx.lockRow('orders', id);
  const version = 1 + (await tx.expectVersion('Order', id, expectedVersion));
  if (!MOVES[before.state].includes(state)) throw new OrderMoveRefused(before.state, state);
  await tx.db
    .updateTable('orders')
    .set({ state })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .execute();
  const order: OrderRow = { ...before, state };
  const lines = await readLines(tx, id);
  const moved = await tx.emit(EVENT[state], { subjectId: id, payload: { order: orderFacts(order, lines, version) } });
  if (state === 'CANCELLED') await giveBack(tx, { orderId: id, causedBy: moved?.id }, sumByProduct(lines));
  return { order };
}

async function giveBack(
  tx: Tx<Tables>,
  cause: Pick<StockCause, 'orderId' | 'causedBy'>,
  quantities: ReadonlyMap<string, number>,
): Promise<void> {
  const products = await lockProducts(tx, [...quantities.keys()]);
  const moves = [...products.values()].map((product) => ({ product, by: quantities.get(product.id) ?? 0 }));
  await moveStock(tx, moves, { reason: 'ORDER_CANCELLED', ...cause });
}
