import { z } from 'zod';
import { defineEvent, enumType, id, snapshot } from '#engine';
import { Money } from '../money/money.ts';

export const ProductSnapshot = snapshot('ProductSnapshot', {
  productId: id('Product'),
  version: z.int32(),
  sku: z.string(),
  title: z.string(),
  price: Money,
  stock: z.int32(),
});

export const StockReason = enumType('StockReason', ['ADJUSTED', 'ORDER_PLACED', 'ORDER_CANCELLED']);

export const productCreated = defineEvent('product.created', {
  kind: 'fact',
  version: 1,
  subject: 'Product',
  scope: 'products:read',
  payload: { product: ProductSnapshot },
  related: [],
  description: 'A product is on sale.',
});

export const productUpdated = defineEvent('product.updated', {
  kind: 'update',
  version: 1,
  subject: 'Product',
  scope: 'products:read',
  payload: { product: ProductSnapshot },
  related: [],
  description: 'A product has another sku, title or price.',
});

export const stockChanged = defineEvent('stock.changed', {
  kind: 'update',
  version: 1,
  subject: 'Product',
  scope: 'products:read',
  payload: {
    sku: z.string(),
    stock: z.int32().describe('How many there are now.'),
    by: z.int32().describe('How many came in; below zero: went out.'),
    reason: StockReason,
    orderId: id('Order').nullable().describe('The order that took them or gave them back.'),
  },
  related: [],
  description: 'There is more or less of a product.',
});

export const productEvents = [productCreated, productUpdated, stockChanged];
