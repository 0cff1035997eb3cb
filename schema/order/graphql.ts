import { VersionConflict } from '#engine';
import { batched } from '../batch.ts';
import { builder } from '../builder.ts';
import { Customer } from '../customer/graphql.ts';
import { MoneyInput } from '../money/graphql.ts';
import { fromMinor, Money } from '../money/money.ts';
import { Product } from '../product/graphql.ts';
import { OutOfStock } from '../product/stock.ts';
import type { OrderLineRow } from '../tables.ts';
import { OrderState, orderEvents } from './events.ts';
import { cancelOrder, deliverOrder, OrderMoveRefused, payOrder, shipOrder } from './moves.ts';
import { CurrencyMixed, placeOrder } from './orders.ts';

const State = builder.payloadEnum(OrderState);

const linesOf = batched<readonly OrderLineRow[]>(async ({ read, accountId }, orderIds) => {
  const lines = await read
    .selectFrom('order_lines')
    .selectAll()
    .where('account_id', '=', accountId)
    .where('order_id', 'in', orderIds)
    .orderBy('number')
    .execute();
  const byOrder = Map.groupBy(lines, ({ order_id }) => order_id);
  return orderIds.map((id) => byOrder.get(id) ?? []);
});

const OrderLine = builder.objectRef<OrderLineRow>('OrderLine').implement({
  description: 'Some of one product, with its sku, title and price as they were when the order was placed.',
  fields: (t) => ({
    number: t.exposeInt('number', { description: '1, 2, 3 … within the order.' }),
    product: t.entity(Product, {
      description: 'The product as it is now.',
      id: ({ product_id }) => product_id,
    }),
    sku: t.exposeString('sku', { description: "The product's sku." }),
    title: t.exposeString('title', { description: "The product's title." }),
    quantity: t.exposeInt('quantity', { description: 'How many.' }),
    unitPrice: t.field({
      type: builder.snapshot(Money),
      description: 'Of one.',
      resolve: ({ unit_price_minor, currency }) => fromMinor({ minor: unit_price_minor, currency }),
    }),
  }),
});

const Order = builder.entity('Order', {
  table: 'orders',
  scope: 'orders:read',
  description: 'Products bought at one time.',
  fields: (t) => ({
    state: t.field({ type: State, description: 'How far it is.', resolve: ({ state }) => state }),
    customer: t.entity(Customer, {
      description: 'Who bought; null for a guest.',
      id: ({ customer_id }) => customer_id,
    }),
    total: t.field({
      type: builder.snapshot(Money),
      description: 'Of all lines.',
      resolve: ({ total_minor, currency }) => fromMinor({ minor: total_minor, currency }),
    }),
    placedAt: t.field({ type: 'DateTime', description: 'When it was placed.', resolve: ({ placed_at }) => placed_at }),
    lines: t.field({
      type: [OrderLine],
      description: 'In their order, at most 1,000.',
      resolve: ({ id }, _args, context) => linesOf(context, id),
    }),
  }),
});

for (const event of orderEvents) {
  builder.objectField(builder.event(event), 'currentOrder', (t) =>
    t.entity(Order, { description: 'Current state: the order as it is when asked.' }),
  );
}

builder.refusal(OrderMoveRefused, {
  description: 'The order is not in a state that allows this.',
  fields: (t) => ({
    from: t.field({ type: State, description: 'The state that it is in.', resolve: ({ from }) => from }),
    to: t.field({ type: State, description: 'The state that was asked for.', resolve: ({ to }) => to }),
    allowed: t.field({
      type: [State],
      description: 'The states that it may move to.',
      resolve: ({ allowed }) => allowed,
    }),
  }),
});

builder.refusal(CurrencyMixed, {
  description: 'The lines are in several currencies.',
  fields: (t) => ({
    currencies: t.stringList({ description: 'Those found.', resolve: ({ currencies }) => [...currencies] }),
  }),
});

builder.queryField('order', (t) =>
  t.field({
    type: Order,
    nullable: true,
    scope: 'orders:read',
    description: 'An order by its id; null if there is none.',
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, { read, accountId }) =>
      (await read
        .selectFrom('orders')
        .selectAll()
        .where('account_id', '=', accountId)
        .where('id', '=', id)
        .executeTakeFirst()) ?? null,
  }),
);

builder.queryField('orders', (t) =>
  t.page(Order, {
    scope: 'orders:read',
    description: 'Orders, oldest first.',
    args: {
      customerId: t.arg.id({ description: 'Only those of this customer.' }),
      state: t.arg({ type: State, description: 'Only those in this state.' }),
    },
    query: ({ read, accountId }, { customerId, state }) =>
      read
        .selectFrom('orders')
        .selectAll()
        .where('account_id', '=', accountId)
        .$if(Boolean(customerId), (orders) => orders.where('customer_id', '=', customerId ?? null))
        .$if(Boolean(state), (orders) => orders.where('state', '=', state ?? 'PLACED')),
  }),
);

const OrderLineInput = builder.inputType('OrderLineInput', {
  description: 'Some of one product. A product may stand in several lines.',
  fields: (t) => ({
    productId: t.id({ required: true, description: 'The product.' }),
    quantity: t.int({ required: true, description: '1 to 1,000,000.' }),
    unitPrice: t.field({
      type: MoneyInput,
      description: "Needs the scope `orders:price`. Left out: the product's price.",
    }),
  }),
});

const OrderPlaceInput = builder.inputType('OrderPlaceInput', {
  description: 'A new order.',
  fields: (t) => ({
    customerId: t.id({ description: 'Who buys. Left out: a guest.' }),
    lines: t.field({ type: [OrderLineInput], required: true, description: '1 to 1,000, all in one currency.' }),
  }),
});

builder.mutationField('orderPlace', (t) =>
  t.change({
    scope: 'orders:write',
    description: 'Places an order and takes its products out of stock.',
    args: { input: t.arg({ type: OrderPlaceInput, required: true }) },
    success: { order: Order },
    refusals: [OutOfStock, CurrencyMixed],
    run: (tx, { input }, { principal }) =>
      placeOrder(tx, input, { maySetPrices: principal.scopes.has('orders:price') }),
  }),
);

const MOVES = [
  ['orderPay', 'Notes that a placed order is paid.', payOrder],
  ['orderShip', 'Notes that a paid order is on its way.', shipOrder],
  ['orderDeliver', 'Notes that a shipped order has arrived.', deliverOrder],
  ['orderCancel', 'Calls off an order that is not shipped yet, and puts its products back in stock.', cancelOrder],
] as const;

for (const [name, description, move] of MOVES) {
  builder.mutationField(name, (t) =>
    t.change({
      scope: 'orders:write',
      description,
      args: {
        id: t.arg.id({ required: true, description: 'The order.' }),
        expectedVersion: t.arg.int({ description: 'Refuses with `VersionConflict` if the order has another version.' }),
      },
      success: { order: Order },
      refusals: [OrderMoveRefused, VersionConflict],
      run: (tx, args) => move(tx, args),
    }),
  );
}
