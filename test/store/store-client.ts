import type { RunOptions, TestEngine } from '../support/engine.ts';

export interface Money {
  readonly amount: string;
  readonly currency: string;
}

export interface Line {
  readonly productId: string;
  readonly quantity: number;
  readonly unitPrice?: Money;
}

/** A union of a success and refusals, with the fields that the tests look at. */
export interface Outcome {
  readonly __typename: string;
  readonly code?: string;
  readonly message?: string;
  readonly cursor?: string;
  readonly order?: { readonly id: string; readonly version: number; readonly state: string; readonly total: Money };
  readonly product?: { readonly id: string; readonly version: number; readonly stock: number };
  readonly customer?: { readonly id: string; readonly version: number };
  readonly products?: readonly { readonly productId: string; readonly requested: number; readonly available: number }[];
  readonly from?: string;
  readonly to?: string;
  readonly allowed?: readonly string[];
}

const REFUSED = '... on Refusal { code message } ... on OutOfStock { products { productId requested available } }';
const ORDER = 'order { id version state total { amount currency } }';

/** What a client of the store sends, for tests that are not about the documents themselves. */
export function createStoreClient(engine: TestEngine, defaults: RunOptions = {}) {
  let products = 0;

  async function change(field: string, source: string, options: RunOptions = {}): Promise<Outcome> {
    const data = await engine.run<Record<string, Outcome>>(source, { ...defaults, ...options });
    const outcome = data[field];
    if (outcome === undefined) throw new Error(`the answer has no "${field}"`);
    return outcome;
  }

  /** A product's id. */
  async function createProduct({ stock = 10, price = '2.50', currency = 'GBP' } = {}): Promise<string> {
    const input = { sku: `SKU-${++products}`, title: `Product ${products}`, price: { amount: price, currency }, stock };
    const outcome = await change(
      'productCreate',
      `mutation ($input: ProductCreateInput!) {
        productCreate(input: $input) { __typename ... on Refusal { message } ... on ProductCreateSuccess { product { id version stock } } }
      }`,
      { variables: { input } },
    );
    return idOf(outcome.product, outcome);
  }

  /** A customer's id. */
  async function createCustomer(name = 'Ada'): Promise<string> {
    const outcome = await change(
      'customerCreate',
      `mutation ($input: CustomerCreateInput!) {
        customerCreate(input: $input) { __typename ... on CustomerCreateSuccess { customer { id version } } }
      }`,
      { variables: { input: { name } } },
    );
    return idOf(outcome.customer, outcome);
  }

  const placeDocument = `mutation ($input: OrderPlaceInput!) {
    orderPlace(input: $input) { __typename ${REFUSED} ... on OrderPlaceSuccess { cursor ${ORDER} } }
  }`;

  function place(
    lines: readonly Line[],
    options: RunOptions & { readonly customerId?: string } = {},
  ): Promise<Outcome> {
    const { customerId, ...rest } = options;
    return change('orderPlace', placeDocument, { ...rest, variables: { input: { customerId, lines } } });
  }

  function move(name: 'Pay' | 'Ship' | 'Deliver' | 'Cancel', id: string, expectedVersion?: number): Promise<Outcome> {
    return change(
      `order${name}`,
      `mutation ($id: ID!, $expectedVersion: Int) {
        order${name}(id: $id, expectedVersion: $expectedVersion) {
          __typename ... on Refusal { code message } ... on OrderMoveRefused { from to allowed } ... on Order${name}Success { cursor ${ORDER} }
        }
      }`,
      { variables: { id, expectedVersion } },
    );
  }

  async function stockOf(id: string): Promise<number> {
    const { product } = await engine.run<{ product: { stock: number } }>(
      'query ($id: ID!) { product(id: $id) { stock } }',
      { ...defaults, variables: { id } },
    );
    return product.stock;
  }

  return { change, createProduct, createCustomer, place, placeDocument, move, stockOf };
}

function idOf(object: { readonly id: string } | undefined, outcome: Outcome): string {
  if (object === undefined) throw new Error(`expected a success, found ${JSON.stringify(outcome)}`);
  return object.id;
}
