import { sql } from 'kysely';
import type { z } from 'zod';
import { EngineError, Refusal, type Tx } from '#engine';
import type { ProductRow, Tables } from '../tables.ts';
import { type StockReason, stockChanged } from './events.ts';

export const MAX_STOCK = 2 ** 31 - 1;

export interface Shortage {
  readonly productId: string;
  readonly sku: string;
  readonly title: string;
  readonly requested: number;
  readonly available: number;
}

export class OutOfStock extends Refusal {
  static override readonly code = 'OUT_OF_STOCK';
  readonly products: readonly Shortage[];
  constructor(products: readonly Shortage[]) {
    const named = products.slice(0, 5).map(({ sku, requested, available }) => `${sku} (${available} of ${requested})`);
    const more = products.length > 5 ? ` and ${products.length - 5} more` : '';
    super(`not enough in stock of ${named.join(', ')}${more}; ask for less`);
    this.products = products;
  }
}

export interface StockAdjustment {
  readonly id: string;
  readonly by: number;
  readonly expectedVersion?: number | null | undefined;
}

export async function adjustStock(tx: Tx<Tables>, { id, by, expectedVersion }: StockAdjustment) {
  const before = await tx.lockRow('products', id);
  await tx.expectVersion('Product', id, expectedVersion);
  const [product = before] = await moveStock(tx, [{ product: before, by }], { reason: 'ADJUSTED', orderId: null });
  return { product };
}

/** The products by their ids, locked in the order of their ids, so that no two orders wait for each other crosswise. */
export async function lockProducts(tx: Tx<Tables>, ids: readonly string[]): Promise<ReadonlyMap<string, ProductRow>> {
  const rows = await tx.db
    .selectFrom('products')
    .selectAll()
    .where('account_id', '=', tx.accountId)
    .where('id', 'in', ids)
    .orderBy('id')
    .forUpdate()
    .execute();
  const products = new Map(rows.map((row) => [row.id, row]));
  const missing = ids.find((id) => !products.has(id));
  if (missing !== undefined) {
    throw new EngineError('NOT_FOUND', `there is no product with the id "${missing.slice(0, 80)}"`);
  }
  return products;
}

export interface StockMove {
  readonly product: ProductRow;
  /** Below zero: taken out. */
  readonly by: number;
}

export interface StockCause {
  readonly reason: z.infer<typeof StockReason>;
  readonly orderId: string | null;
  /** The event that moved it. */
  readonly causedBy?: string | undefined;
}

/** Changes the stock of products that are locked, or refuses with `OutOfStock` naming all that lack. */
export async function moveStock(
  tx: Tx<Tables>,
  moves: readonly StockMove[],
  { reason, orderId, causedBy }: StockCause,
): Promise<ProductRow[]> {
  requireStock(moves);
  await sql`
    update products set stock = stock + move.quantity
    from unnest(${moves.map(({ product }) => product.id)}::text[], ${moves.map(({ by }) => by)}::int[]) as move (id, quantity)
    where products.account_id = ${tx.accountId} and products.id = move.id
  `.execute(tx.db);
  const moved = moves.map(({ product, by }) => ({ ...product, stock: product.stock + by }));
  for (const { product, by } of moves) {
    await tx.emit(stockChanged, {
      subjectId: product.id,
      changed: by === 0 ? [] : ['stock'],
      causedBy,
      payload: { sku: product.sku, stock: product.stock + by, by, reason, orderId },
    });
  }
  return moved;
}

function requireStock(moves: readonly StockMove[]): void {
  const short = moves.filter(({ product, by }) => product.stock + by < 0);
  if (short.length > 0) throw new OutOfStock(short.map(toShortage));
  const over = moves.find(({ product, by }) => product.stock + by > MAX_STOCK);
  if (over) {
    throw new EngineError(
      'BAD_INPUT',
      `expected at most ${MAX_STOCK} in stock of ${over.product.sku}, found ${over.product.stock} and ${over.by} more; adjust its stock first`,
    );
  }
}

function toShortage({ product: { id: productId, sku, title, stock }, by }: StockMove): Shortage {
  return { productId, sku, title, requested: -by, available: stock };
}
