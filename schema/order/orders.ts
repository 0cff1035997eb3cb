import type { z } from 'zod';
import { EngineError, Refusal, type Tx } from '#engine';
import { checkRange } from '../input.ts';
import { fromMinor, type MoneyInput, toMinor, totalMinor } from '../money/money.ts';
import { lockProducts, moveStock } from '../product/stock.ts';
import type { OrderLineRow, OrderRow, Tables } from '../tables.ts';
import { type OrderSnapshot, orderPlaced } from './events.ts';

const MAX_LINES = 1_000;
const MAX_QUANTITY = 1_000_000;

export class CurrencyMixed extends Refusal {
  static override readonly code = 'CURRENCY_MIXED';
  readonly currencies: readonly string[];
  constructor(currencies: readonly string[]) {
    super(`expected all lines in one currency, found ${currencies.join(', ')}; place an order for each`);
    this.currencies = currencies;
  }
}

export interface OrderDraft {
  readonly customerId?: string | null | undefined;
  readonly lines: readonly LineDraft[];
}

export interface LineDraft {
  readonly productId: string;
  readonly quantity: number;
  readonly unitPrice?: MoneyInput | null | undefined;
}

export interface BuyerRights {
  /** Whether lines may have a price of their own. */
  readonly maySetPrices: boolean;
}

export async function placeOrder(tx: Tx<Tables>, draft: OrderDraft, { maySetPrices }: BuyerRights) {
  checkLines(draft.lines, maySetPrices);
  await requireCustomer(tx, draft.customerId);
  const products = await lockProducts(tx, [...new Set(draft.lines.map(({ productId }) => productId))]);
  const id = tx.newId('Order');
  const lines = draft.lines.map((line, index) => toLine({ tx, line, index, orderId: id, products }));
  const order = await insertOrder(tx, { id, customerId: draft.customerId ?? null, lines });
  const placed = await tx.emit(orderPlaced, { subjectId: id, payload: { order: orderFacts(order, lines, 1) } });
  const taken = sumByProduct(lines);
  const moves = [...products.values()].map((product) => ({ product, by: -(taken.get(product.id) ?? 0) }));
  await moveStock(tx, moves, { reason: 'ORDER_PLACED', orderId: id, causedBy: placed?.id });
  return { order };
}

function checkLines(lines: readonly LineDraft[], maySetPrices: boolean): void {
  if (lines.length < 1 || lines.length > MAX_LINES) {
    throw new EngineError('BAD_INPUT', `lines: expected 1 to ${MAX_LINES}, found ${lines.length}`);
  }
  for (const [index, { quantity, unitPrice }] of lines.entries()) {
    checkRange(quantity, { field: `lines.${index}.quantity`, min: 1, max: MAX_QUANTITY });
    if (unitPrice && !maySetPrices) {
      throw new EngineError(
        'FORBIDDEN',
        `lines.${index}.unitPrice needs the scope "orders:price"; leave it out for the product's price`,
      );
    }
  }
}

async function requireCustomer(tx: Tx<Tables>, id: string | null | undefined): Promise<void> {
  if (id === null || id === undefined) return;
  const customer = await tx.db
    .selectFrom('customers')
    .select('id')
    .where('account_id', '=', tx.accountId)
    .where('id', '=', id)
    .executeTakeFirst();
  if (customer === undefined) {
    throw new EngineError('NOT_FOUND', `there is no customer with the id "${id.slice(0, 80)}"`);
  }
}

interface LinePlan {
  readonly tx: Tx<Tables>;
  readonly line: LineDraft;
  readonly index: number;
  readonly orderId: string;
  readonly products: Awaited<ReturnType<typeof lockProducts>>;
}

function toLine({ tx, line, index, orderId, products }: LinePlan): OrderLineRow {
  const product = products.get(line.productId);
  if (product === undefined) throw new Error(`the product ${line.productId} is not locked`);
  const given = line.unitPrice && toMinor(line.unitPrice, `lines.${index}.unitPrice`);
  const { minor, currency } = given ?? { minor: product.price_minor, currency: product.currency };
  return {
    account_id: tx.accountId,
    order_id: orderId,
    number: index + 1,
    product_id: product.id,
    sku: product.sku,
    title: product.title,
    quantity: line.quantity,
    unit_price_minor: minor,
    currency,
  };
}

interface OrderRows {
  readonly id: string;
  readonly customerId: string | null;
  readonly lines: readonly OrderLineRow[];
}

async function insertOrder(tx: Tx<Tables>, { id, customerId, lines }: OrderRows): Promise<OrderRow> {
  const [currency = '', ...others] = new Set(lines.map((line) => line.currency));
  if (others.length > 0) throw new CurrencyMixed([currency, ...others]);
  const order = await tx.db
    .insertInto('orders')
    .values({
      id,
      account_id: tx.accountId,
      customer_id: customerId,
      state: 'PLACED',
      total_minor: totalMinor(lines, 'total'),
      currency,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  await tx.db.insertInto('order_lines').values(lines).execute();
  return order;
}

/** How many of each product there are in all lines together. */
export function sumByProduct(lines: readonly OrderLineRow[]): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const { product_id, quantity } of lines) sums.set(product_id, (sums.get(product_id) ?? 0) + quantity);
  return sums;
}

export function readLines(tx: Tx<Tables>, orderId: string): Promise<OrderLineRow[]> {
  return tx.db
    .selectFrom('order_lines')
    .selectAll()
    .where('account_id', '=', tx.accountId)
    .where('order_id', '=', orderId)
    .orderBy('number')
    .execute();
}

export function orderFacts(
  order: OrderRow,
  lines: readonly OrderLineRow[],
  version: number,
): z.infer<typeof OrderSnapshot> {
  return {
    orderId: order.id,
    version,
    state: order.state,
    customerId: order.customer_id,
    total: fromMinor({ minor: order.total_minor, currency: order.currency }),
    placedAt: order.placed_at.toISOString(),
    lines: lines.map((line) => ({
      number: line.number,
      productId: line.product_id,
      sku: line.sku,
      quantity: line.quantity,
      unitPrice: fromMinor({ minor: line.unit_price_minor, currency: line.currency }),
    })),
  };
}
