// biome-ignore-all format: generated from orders.graphql and the schema by "npm run example:generate"
// biome-ignore-all lint: generated
// biome-ignore-all assist: generated
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** What can happen. New values may be added: keep a default branch. */
export type EventType =
  /** There is a new customer. */
  | 'CUSTOMER_CREATED'
  /** A customer has another name, address of mail or country. */
  | 'CUSTOMER_UPDATED'
  /** The order is off; its goods are back in stock. */
  | 'ORDER_CANCELLED'
  /** The goods have arrived. */
  | 'ORDER_DELIVERED'
  /** The money is there. */
  | 'ORDER_PAID'
  /** Somebody bought. */
  | 'ORDER_PLACED'
  /** The goods are on their way. */
  | 'ORDER_SHIPPED'
  /** A product is on sale. */
  | 'PRODUCT_CREATED'
  /** A product has another sku, title or price. */
  | 'PRODUCT_UPDATED'
  /** There is more or less of a product. */
  | 'STOCK_CHANGED';

/** Why a change was refused. New values may be added: keep a default branch. */
export type RefusalCode =
  | 'CALLBACK_REFUSED'
  | 'CURRENCY_MIXED'
  | 'DOCUMENT_INVALID'
  | 'ORDER_MOVE_REFUSED'
  | 'OUT_OF_STOCK'
  | 'SKU_TAKEN'
  | 'VERSION_CONFLICT';

export type WebhookCreateInput = {
  /** At most 500 characters. */
  readonly description?: string | null | undefined;
  /** Either these, each by its default document … */
  readonly eventTypes?: ReadonlyArray<EventType> | null | undefined;
  /** An object of at most 4 KiB, kept for the caller. */
  readonly metadata?: unknown;
  /** … or a subscription document with one root field, whose value becomes `data`. */
  readonly query?: string | null | undefined;
  /** What the webhook may see, out of the key's own scopes. Left out: the fewest that serve. It keeps them whatever becomes of the key. */
  readonly scopes?: ReadonlyArray<string> | null | undefined;
  /** A cursor: begins behind it, without gap or repeat. Left out: with the next event. */
  readonly startAfter?: string | null | undefined;
  /** https, with a public host. */
  readonly url: string;
  /** Of the document. */
  readonly variables?: unknown;
};

export type PlacedOrderFragment = { readonly __typename: 'OrderPlaced', readonly id: string, readonly position: string, readonly cursor: string, readonly occurredAt: string, readonly order: { readonly orderId: string, readonly total: { readonly amount: string, readonly currency: string }, readonly lines: ReadonlyArray<{ readonly sku: string, readonly quantity: number }> } };

export type HeadQueryVariables = Exact<{ [key: string]: never; }>;


export type HeadQuery = { readonly head: string };

export type PulledOrdersQueryVariables = Exact<{
  after?: string | null | undefined;
}>;


export type PulledOrdersQuery = { readonly events: { readonly nodes: ReadonlyArray<
      | { readonly __typename: 'CustomerCreated' }
      | { readonly __typename: 'CustomerUpdated' }
      | { readonly __typename: 'OrderCancelled' }
      | { readonly __typename: 'OrderDelivered' }
      | { readonly __typename: 'OrderPaid' }
      | { readonly __typename: 'OrderPlaced', readonly id: string, readonly position: string, readonly cursor: string, readonly occurredAt: string, readonly order: { readonly orderId: string, readonly total: { readonly amount: string, readonly currency: string }, readonly lines: ReadonlyArray<{ readonly sku: string, readonly quantity: number }> } }
      | { readonly __typename: 'OrderShipped' }
      | { readonly __typename: 'ProductCreated' }
      | { readonly __typename: 'ProductUpdated' }
      | { readonly __typename: 'StockChanged' }
    >, readonly pageInfo: { readonly hasNextPage: boolean, readonly endCursor: string | null } } };

export type WatchedOrdersSubscriptionVariables = Exact<{
  after?: string | null | undefined;
}>;


export type WatchedOrdersSubscription = { readonly orderPlaced: { readonly __typename: 'OrderPlaced', readonly id: string, readonly position: string, readonly cursor: string, readonly occurredAt: string, readonly order: { readonly orderId: string, readonly total: { readonly amount: string, readonly currency: string }, readonly lines: ReadonlyArray<{ readonly sku: string, readonly quantity: number }> } } };

export type RegisterWebhookMutationVariables = Exact<{
  input: WebhookCreateInput;
}>;


export type RegisterWebhookMutation = { readonly webhookCreate:
    | { readonly __typename: 'CallbackRefused', readonly code: RefusalCode, readonly message: string }
    | { readonly __typename: 'DocumentInvalid', readonly code: RefusalCode, readonly message: string }
    | { readonly __typename: 'WebhookCreateSuccess', readonly secret: string | null, readonly webhook: { readonly id: string } }
   };

export type DeleteWebhookMutationVariables = Exact<{
  id: string;
}>;


export type DeleteWebhookMutation = { readonly webhookDelete:
    | { readonly __typename: 'VersionConflict' }
    | { readonly __typename: 'WebhookDeleteSuccess' }
   };

export class TypedDocumentString<TResult, TVariables>
  extends String
  implements DocumentTypeDecoration<TResult, TVariables>
{
  __apiType?: NonNullable<DocumentTypeDecoration<TResult, TVariables>['__apiType']>;
  private value: string;
  public __meta__?: Record<string, unknown> | undefined;

  constructor(value: string, __meta__?: Record<string, unknown> | undefined) {
    super(value);
    this.value = value;
    this.__meta__ = __meta__;
  }

  override toString(): string & DocumentTypeDecoration<TResult, TVariables> {
    return this.value;
  }
}
export const PlacedOrderFragmentDoc = new TypedDocumentString(`
    fragment PlacedOrder on OrderPlaced {
  __typename
  id
  position
  cursor
  occurredAt
  order {
    orderId
    total {
      amount
      currency
    }
    lines {
      sku
      quantity
    }
  }
}
    `, {"fragmentName":"PlacedOrder"}) as unknown as TypedDocumentString<PlacedOrderFragment, unknown>;
export const HeadDocument = new TypedDocumentString(`
    query Head {
  head
}
    `) as unknown as TypedDocumentString<HeadQuery, HeadQueryVariables>;
export const PulledOrdersDocument = new TypedDocumentString(`
    query PulledOrders($after: String) {
  events(filter: { types: [ORDER_PLACED] }, first: 50, after: $after) {
    nodes {
      __typename
      ... on OrderPlaced {
        ...PlacedOrder
      }
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
    fragment PlacedOrder on OrderPlaced {
  __typename
  id
  position
  cursor
  occurredAt
  order {
    orderId
    total {
      amount
      currency
    }
    lines {
      sku
      quantity
    }
  }
}`) as unknown as TypedDocumentString<PulledOrdersQuery, PulledOrdersQueryVariables>;
export const WatchedOrdersDocument = new TypedDocumentString(`
    subscription WatchedOrders($after: String) {
  orderPlaced(after: $after) {
    ...PlacedOrder
  }
}
    fragment PlacedOrder on OrderPlaced {
  __typename
  id
  position
  cursor
  occurredAt
  order {
    orderId
    total {
      amount
      currency
    }
    lines {
      sku
      quantity
    }
  }
}`) as unknown as TypedDocumentString<WatchedOrdersSubscription, WatchedOrdersSubscriptionVariables>;
export const RegisterWebhookDocument = new TypedDocumentString(`
    mutation RegisterWebhook($input: WebhookCreateInput!) {
  webhookCreate(input: $input) {
    __typename
    ... on WebhookCreateSuccess {
      webhook {
        id
      }
      secret
    }
    ... on Refusal {
      code
      message
    }
  }
}
    `) as unknown as TypedDocumentString<RegisterWebhookMutation, RegisterWebhookMutationVariables>;
export const DeleteWebhookDocument = new TypedDocumentString(`
    mutation DeleteWebhook($id: ID!) {
  webhookDelete(id: $id) {
    __typename
  }
}
    `) as unknown as TypedDocumentString<DeleteWebhookMutation, DeleteWebhookMutationVariables>;
