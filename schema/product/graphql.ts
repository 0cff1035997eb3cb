import { VersionConflict } from '#engine';
import { builder } from '../builder.ts';
import { MoneyInput } from '../money/graphql.ts';
import { fromMinor, Money } from '../money/money.ts';
import { productEvents } from './events.ts';
import { createProduct, SkuTaken, updateProduct } from './products.ts';
import { adjustStock, OutOfStock, type Shortage } from './stock.ts';

export const Product = builder.entity('Product', {
  table: 'products',
  scope: 'products:read',
  description: 'Something on sale.',
  fields: (t) => ({
    sku: t.exposeString('sku', { description: "The seller's own number of it; no other product has it." }),
    title: t.exposeString('title', { description: 'For people.' }),
    price: t.field({
      type: builder.snapshot(Money),
      description: 'Of one.',
      resolve: ({ price_minor, currency }) => fromMinor({ minor: price_minor, currency }),
    }),
    stock: t.exposeInt('stock', { description: 'How many there are.' }),
  }),
});

for (const event of productEvents) {
  builder.objectField(builder.event(event), 'currentProduct', (t) =>
    t.entity(Product, { description: 'Current state: the product as it is when asked.' }),
  );
}

const ProductShortage = builder.objectRef<Shortage>('ProductShortage').implement({
  description: 'A product of which there is not enough.',
  fields: (t) => ({
    productId: t.exposeID('productId', { description: 'The product.' }),
    sku: t.exposeString('sku', { description: 'Its sku.' }),
    title: t.exposeString('title', { description: 'Its title.' }),
    requested: t.exposeInt('requested', { description: 'How many were asked for, in all lines together.' }),
    available: t.exposeInt('available', { description: 'How many there were.' }),
  }),
});

builder.refusal(OutOfStock, {
  description: 'There is not enough of some products.',
  fields: (t) => ({
    products: t.field({
      type: [ProductShortage],
      description: 'All products that lack.',
      resolve: ({ products }) => products,
    }),
  }),
});

builder.refusal(SkuTaken, {
  description: 'Another product has this sku.',
  fields: (t) => ({ sku: t.exposeString('sku', { description: 'The sku.' }) }),
});

builder.queryField('product', (t) =>
  t.field({
    type: Product,
    nullable: true,
    scope: 'products:read',
    description: 'A product by its id; null if there is none.',
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, { read, accountId }) =>
      (await read
        .selectFrom('products')
        .selectAll()
        .where('account_id', '=', accountId)
        .where('id', '=', id)
        .executeTakeFirst()) ?? null,
  }),
);

builder.queryField('productBySku', (t) =>
  t.field({
    type: Product,
    nullable: true,
    scope: 'products:read',
    description: 'A product by its sku; null if there is none.',
    args: { sku: t.arg.string({ required: true }) },
    resolve: async (_root, { sku }, { read, accountId }) =>
      (await read
        .selectFrom('products')
        .selectAll()
        .where('account_id', '=', accountId)
        .where('sku', '=', sku)
        .executeTakeFirst()) ?? null,
  }),
);

builder.queryField('products', (t) =>
  t.page(Product, {
    scope: 'products:read',
    description: 'All products, oldest first.',
    query: ({ read, accountId }) => read.selectFrom('products').selectAll().where('account_id', '=', accountId),
  }),
);

const ProductCreateInput = builder.inputType('ProductCreateInput', {
  description: 'A new product.',
  fields: (t) => ({
    sku: t.string({ required: true, description: '1 to 64 visible ASCII characters, no quotes or backslashes.' }),
    title: t.string({ required: true, description: '1 to 200 characters; blanks around it are dropped.' }),
    price: t.field({ type: MoneyInput, required: true, description: 'Of one.' }),
    stock: t.int({ description: 'How many there are; left out: none.' }),
  }),
});

const ProductUpdateInput = builder.inputType('ProductUpdateInput', {
  description: 'What is to change of a product. What is left out stays as it is.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The product.' }),
    sku: t.string({ description: '1 to 64 visible ASCII characters, no quotes or backslashes.' }),
    title: t.string({ description: '1 to 200 characters; blanks around it are dropped.' }),
    price: t.field({ type: MoneyInput, description: 'Of one.' }),
    expectedVersion: t.int({ description: 'Refuses with `VersionConflict` if the product has another version.' }),
  }),
});

builder.mutationField('productCreate', (t) =>
  t.change({
    scope: 'products:write',
    description: 'Puts a product on sale.',
    args: { input: t.arg({ type: ProductCreateInput, required: true }) },
    success: { product: Product },
    refusals: [SkuTaken],
    run: (tx, { input }) => createProduct(tx, input),
  }),
);

builder.mutationField('productUpdate', (t) =>
  t.change({
    scope: 'products:write',
    description: 'Changes a product. Its stock has a mutation of its own, `stockAdjust`.',
    args: { input: t.arg({ type: ProductUpdateInput, required: true }) },
    success: { product: Product },
    refusals: [SkuTaken, VersionConflict],
    run: (tx, { input }) => updateProduct(tx, input),
  }),
);

builder.mutationField('stockAdjust', (t) =>
  t.change({
    scope: 'products:write',
    description: 'Brings stock in or takes it out, beside orders.',
    args: {
      id: t.arg.id({ required: true, description: 'The product.' }),
      by: t.arg.int({ required: true, description: 'How many come in; below zero: go out.' }),
      expectedVersion: t.arg.int({ description: 'Refuses with `VersionConflict` if the product has another version.' }),
    },
    success: { product: Product },
    refusals: [OutOfStock, VersionConflict],
    run: (tx, args) => adjustStock(tx, args),
  }),
);
