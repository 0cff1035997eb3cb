import type { Generated, Selectable } from 'kysely';

/** Rows of the tables that migrations/domain makes. */
export interface Tables {
  products: {
    id: string;
    account_id: string;
    sku: string;
    title: string;
    price_minor: number;
    currency: string;
    stock: number;
  };
  customers: {
    id: string;
    account_id: string;
    name: string;
    email: string | null;
    country: string | null;
  };
  orders: {
    id: string;
    account_id: string;
    customer_id: string | null;
    state: 'PLACED' | 'PAID' | 'SHIPPED' | 'DELIVERED' | 'CANCELLED';
    total_minor: number;
    currency: string;
    placed_at: Generated<Date>;
  };
  order_lines: {
    account_id: string;
    order_id: string;
    number: number;
    product_id: string;
    sku: string;
    title: string;
    quantity: number;
    unit_price_minor: number;
    currency: string;
  };
}

export type ProductRow = Selectable<Tables['products']>;
export type CustomerRow = Selectable<Tables['customers']>;
export type OrderRow = Selectable<Tables['orders']>;
export type OrderLineRow = Selectable<Tables['order_lines']>;
