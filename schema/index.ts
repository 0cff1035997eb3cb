import { defineDomain } from '#engine';
import { builder } from './builder.ts';
import './customer/graphql.ts';
import './order/graphql.ts';
import './product/graphql.ts';

/** A small store: products, customers, orders. */
export const domain = defineDomain({
  builder,
  idPrefixes: { Product: 'prod', Customer: 'cust', Order: 'order' },
  scopes: ['orders:price'],
});
