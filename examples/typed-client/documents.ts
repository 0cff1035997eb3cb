// biome-ignore-all format: generated from orders.graphql and the schema by "npm run example:generate"
// biome-ignore-all lint: generated
// biome-ignore-all assist: generated
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** Which events: each part that is given must hold, and a part holds if any of its values does. */
export type EventFilter = {
  /** Names of changed fields; only updates have any. */
  readonly changed?: ReadonlyArray<string> | null | undefined;
  /** Ids that the payload refers to, such as the customer of an order. */
  readonly related?: ReadonlyArray<string> | null | undefined;
  /** Ids of what the events are about. */
  readonly subjects?: ReadonlyArray<string> | null | undefined;
  /** Names of fields, too: an update passes if one of them changed; what is no update passes anyway. */
  readonly triggers?: ReadonlyArray<string> | null | undefined;
  /** Types of events. */
  readonly types?: ReadonlyArray<EventType> | null | undefined;
};

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
  /** With `eventTypes`: which of their events; `triggers` in it sends an update only if one of these fields changed. A document has its own, as an argument of its root field. */
  readonly filter?: EventFilter | null | undefined;
  /** Requests under way at once, in all processes: 1 to 100; 0: the server's own number, 8. Fewer while they fail. */
  readonly maxInFlight?: number | null | undefined;
  /** An object of at most 4 KiB, kept for the caller. */
  readonly metadata?: unknown;
  /** With PER_SUBJECT, when a delivery has used up its attempts: SKIP lets the next of its subject go, BLOCK has them wait until `deliveryRetry` succeeds, or for SKIP. */
  readonly onExhausted?: WebhookOnExhausted | null | undefined;
  /** PER_SUBJECT: within one subject each delivery waits for the end of the one before it. One that keeps failing holds up its subject only. */
  readonly ordering?: WebhookOrdering | null | undefined;
  /** … or a subscription document with one root field, whose value becomes `data`. */
  readonly query?: string | null | undefined;
  /** Requests a second at most, in all processes, retries included: 0.01 to 1000; 0: no limit. What it holds back waits, and is no attempt. */
  readonly ratePerSecond?: number | null | undefined;
  /** When to try again; left out: ten attempts over three days. */
  readonly retry?: WebhookRetryInput | null | undefined;
  /** What the webhook may see, out of the key's own scopes. Left out: the fewest that serve. It keeps them whatever becomes of the key. */
  readonly scopes?: ReadonlyArray<string> | null | undefined;
  /** A cursor: begins behind it, without gap or repeat. Left out: with the next event. */
  readonly startAfter?: string | null | undefined;
  /** https, with a public host. */
  readonly url: string;
  /** Of the document. */
  readonly variables?: unknown;
};

/** What becomes of those that wait for a delivery which has used up its attempts. */
export type WebhookOnExhausted =
  | 'BLOCK'
  | 'SKIP';

/** Which order a webhook's deliveries keep. PER_SUBJECT: within one subject each delivery waits for the end of the one before it. One that keeps failing holds up its subject only. New values may be added: keep a default branch. */
export type WebhookOrdering =
  | 'PER_SUBJECT'
  | 'UNORDERED';

/** When a delivery is tried again. Each wait is stretched or shortened by up to a tenth. */
export type WebhookRetryInput = {
  /** Seconds before the second attempt, the third and so on: 1 to 604800 each. Empty: one attempt only. Left out: ten attempts over three days. */
  readonly delays?: ReadonlyArray<number> | null | undefined;
  /** Seconds from the first attempt to the last: 1 to 1209600; the last delay is repeated until then. None is scheduled later. At most 100 attempts. */
  readonly window?: number | null | undefined;
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
