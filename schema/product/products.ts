import type { z } from 'zod';
import { EngineError, Refusal, type Tx } from '#engine';
import { changedFields } from '../changed.ts';
import { checkRange, checkText, notNull, quote } from '../input.ts';
import { fromMinor, type MoneyInput, toMinor } from '../money/money.ts';
import type { ProductRow, Tables } from '../tables.ts';
import { type ProductSnapshot, productCreated, productUpdated } from './events.ts';
import { MAX_STOCK } from './stock.ts';

export class SkuTaken extends Refusal {
  static override readonly code = 'SKU_TAKEN';
  readonly sku: string;
  constructor(sku: string) {
    super(`another product has the sku "${sku}"; choose another, or update that product`);
    this.sku = sku;
  }
}

export interface ProductDraft {
  readonly sku: string;
  readonly title: string;
  readonly price: MoneyInput;
  readonly stock?: number | null | undefined;
}

export async function createProduct(tx: Tx<Tables>, draft: ProductDraft) {
  const { minor, currency } = toMinor(draft.price, 'price');
  const product: ProductRow = {
    id: tx.newId('Product'),
    account_id: tx.accountId,
    sku: checkSku(draft.sku),
    title: checkText(draft.title, { field: 'title', max: 200 }),
    price_minor: minor,
    currency,
    stock: checkRange(draft.stock ?? 0, { field: 'stock', min: 0, max: MAX_STOCK }),
  };
  await tx.db.insertInto('products').values(product).execute().catch(refuseTakenSku(product.sku));
  await tx.emit(productCreated, { subjectId: product.id, payload: { product: productFacts(product, 1) } });
  return { product };
}

export interface ProductPatch {
  readonly id: string;
  readonly sku?: string | null | undefined;
  readonly title?: string | null | undefined;
  readonly price?: MoneyInput | null | undefined;
  readonly expectedVersion?: number | null | undefined;
}

export async function updateProduct(tx: Tx<Tables>, patch: ProductPatch) {
  const before = await tx.lockRow('products', patch.id);
  const version = 1 + (await tx.expectVersion('Product', before.id, patch.expectedVersion));
  const product = { ...before, ...checkPatch(patch) };
  const changed = changedFields(productFacts(before, version), productFacts(product, version));
  if (changed.length === 0) return { product };
  const { sku, title, price_minor, currency } = product;
  await tx.db
    .updateTable('products')
    .set({ sku, title, price_minor, currency })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', product.id)
    .execute()
    .catch(refuseTakenSku(sku));
  await tx.emit(productUpdated, {
    subjectId: product.id,
    changed,
    payload: { product: productFacts(product, version) },
  });
  return { product };
}

function checkPatch(patch: ProductPatch): Partial<ProductRow> {
  const sku = notNull(patch.sku, 'sku');
  const title = notNull(patch.title, 'title');
  const price = notNull(patch.price, 'price');
  const money = price && toMinor(price, 'price');
  return {
    ...(sku !== undefined && { sku: checkSku(sku) }),
    ...(title !== undefined && { title: checkText(title, { field: 'title', max: 200 }) }),
    ...(money && { price_minor: money.minor, currency: money.currency }),
  };
}

/** Quotes and backslashes would double in JSON, and an order of 1,000 lines with them outgrow its event. */
function checkSku(text: string): string {
  const sku = text.trim();
  if (!/^[!-~]{1,64}$/.test(sku) || /["\\]/.test(sku)) {
    throw new EngineError(
      'BAD_INPUT',
      `sku: expected 1 to 64 visible ASCII characters, no quotes or backslashes, found ${quote(sku)}`,
    );
  }
  return sku;
}

function productFacts(product: ProductRow, version: number): z.infer<typeof ProductSnapshot> {
  const { id: productId, sku, title, price_minor: minor, currency, stock } = product;
  return { productId, version, sku, title, price: fromMinor({ minor, currency }), stock };
}

const UNIQUE_VIOLATION = '23505';

function refuseTakenSku(sku: string) {
  return (error: Error): never => {
    throw 'code' in error && error.code === UNIQUE_VIOLATION ? new SkuTaken(sku) : error;
  };
}
