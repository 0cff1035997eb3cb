import { z } from 'zod';
import { defineEvent, enumType, id, snapshot } from '#engine';
import { Money } from '../money/money.ts';

export const OrderState = enumType('OrderState', ['PLACED', 'PAID', 'SHIPPED', 'DELIVERED', 'CANCELLED']);

/** Without the title: 1,000 lines of at most 235 bytes stay below the 256 KiB of an event. */
export const OrderLineSnapshot = snapshot('OrderLineSnapshot', {
  number: z.int32(),
  productId: id('Product'),
  sku: z.string(),
  quantity: z.int32(),
  unitPrice: Money,
});

export const OrderSnapshot = snapshot('OrderSnapshot', {
  orderId: id('Order'),
  version: z.int32(),
  state: OrderState,
  customerId: id('Customer').nullable().describe('Null for a guest.'),
  total: Money,
  placedAt: z.iso.datetime(),
  lines: z.array(OrderLineSnapshot),
});

const facts = {
  kind: 'fact',
  version: 1,
  subject: 'Order',
  scope: 'orders:read',
  payload: { order: OrderSnapshot },
  related: ['order.customerId', 'order.lines.productId'],
} as const;

export const orderPlaced = defineEvent('order.placed', { ...facts, description: 'Somebody bought.' });
export const orderPaid = defineEvent('order.paid', { ...facts, description: 'The money is there.' });
export const orderShipped = defineEvent('order.shipped', { ...facts, description: 'The goods are on their way.' });
export const orderDelivered = defineEvent('order.delivered', { ...facts, description: 'The goods have arrived.' });
export const orderCancelled = defineEvent('order.cancelled', {
  ...facts,
  description: 'The order is off; its goods are back in stock.',
});

export const orderEvents = [orderPlaced, orderPaid, orderShipped, orderDelivered, orderCancelled];
