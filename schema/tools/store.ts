import type { Answer, GraphqlClient } from './graphql-client.ts';
import { readAmount, writeAmount } from './pence.ts';

/** What became of one change. A refusal's code is the store's or one of `errors[]`. */
export type Change =
  | {
      readonly status: 'done';
      readonly id: string;
      /** Stands behind the change's last event. */
      readonly cursor: string;
      /** Of a placed order. */
      readonly totalPence: bigint;
    }
  | { readonly status: 'refused'; readonly field: string; readonly code: string; readonly message: string };

/** The store's changes, each by an idempotency key made of what it is about. */
export interface Store {
  createProduct(product: ProductDraft): Promise<Change>;
  /** The product that has the sku; undefined if none has. */
  findProduct(sku: string): Promise<string | undefined>;
  createCustomer(customer: CustomerDraft): Promise<Change>;
  placeOrder(order: OrderDraft): Promise<Change>;
  moveOrder(move: OrderMove): Promise<Change>;
}

export interface ProductDraft {
  readonly sku: string;
  readonly title: string;
  readonly pence: bigint;
  readonly stock: number;
}

export interface CustomerDraft {
  /** The seller's own number. */
  readonly id: string;
  readonly country: string | undefined;
}

export interface OrderDraft {
  readonly invoice: string;
  /** Undefined for a guest. */
  readonly customerId: string | undefined;
  readonly lines: readonly OrderLine[];
}

export interface OrderLine {
  readonly productId: string;
  readonly quantity: number;
  readonly pence: bigint;
}

export interface OrderMove {
  readonly invoice: string;
  readonly id: string;
  readonly move: 'pay' | 'ship';
}

/** A change that the server acknowledged, now or, by the same key, before. */
export interface Acknowledgement {
  /** The idempotency key. */
  readonly key: string;
  /** The mutation. */
  readonly field: string;
  /** Of the product, customer or order. */
  readonly id: string;
  readonly cursor: string;
}

export interface StoreOptions {
  readonly client: GraphqlClient;
  /** Begins each idempotency key. */
  readonly keyPrefix: string;
  /** Called as soon as a change is acknowledged. */
  readonly onAcknowledged: (acknowledgement: Acknowledgement) => void;
}

/** What these changes, and what they select, need of a key. */
export const STORE_SCOPES: readonly string[] = [
  ...['products:read', 'products:write', 'customers:read', 'customers:write'],
  ...['orders:read', 'orders:write', 'orders:price'],
];

const CURRENCY = 'GBP';

/** Makes the door to a store behind a client; nothing is sent yet. */
export function createStore({ client, keyPrefix, onAcknowledged }: StoreOptions): Store {
  const change = async (
    spec: ChangeSpec,
    key: string,
    variables: Readonly<Record<string, unknown>>,
  ): Promise<Change> => {
    const idempotencyKey = `${keyPrefix}:${key}`;
    const answer = await client.ask({ document: documentOf(spec), variables, field: spec.field, idempotencyKey });
    const outcome = readChange(spec, answer);
    if (outcome.status === 'done') {
      const { id, cursor } = outcome;
      onAcknowledged({ key: idempotencyKey, field: spec.field, id, cursor });
    }
    return outcome;
  };
  return {
    createProduct: ({ sku, title, pence, stock }) =>
      change(CREATE_PRODUCT, `product:${sku}`, { input: { sku, title, price: money(pence), stock } }),
    async findProduct(sku) {
      const answer = await client.ask({ document: FIND_PRODUCT, variables: { sku }, field: 'found' });
      if (answer.status === 'failed') throw new Error(`productBySku: ${answer.code}: ${answer.message}`);
      return readId(answer.value);
    },
    createCustomer: ({ id, country }) =>
      change(CREATE_CUSTOMER, `customer:${id}`, { input: { name: `Customer ${id}`, ...(country && { country }) } }),
    placeOrder({ invoice, customerId, lines }) {
      const priced = lines.map(({ productId, quantity, pence }) => ({ productId, quantity, unitPrice: money(pence) }));
      return change(PLACE_ORDER, `order:${invoice}:place`, {
        input: { ...(customerId && { customerId }), lines: priced },
      });
    },
    moveOrder: ({ invoice, id, move }) =>
      change(move === 'pay' ? PAY_ORDER : SHIP_ORDER, `order:${invoice}:${move}`, { id }),
  };
}

/** A mutation: its arguments as they are declared and passed, and what to select of its success. */
interface ChangeSpec {
  readonly field: string;
  readonly declares: string;
  readonly passes: string;
  readonly entity: 'product' | 'customer' | 'order';
  readonly selects: string;
  /** A result without refusals is no place for a fragment on them. */
  readonly mayRefuse: boolean;
}

const TAKES_ID = { declares: '$id: ID!', passes: 'id: $id', entity: 'order', selects: 'id', mayRefuse: true } as const;
const PAY_ORDER: ChangeSpec = { ...TAKES_ID, field: 'orderPay' };
const SHIP_ORDER: ChangeSpec = { ...TAKES_ID, field: 'orderShip' };
const CREATE_PRODUCT: ChangeSpec = {
  ...takesInput('ProductCreateInput'),
  field: 'productCreate',
  entity: 'product',
  selects: 'id',
  mayRefuse: true,
};
const CREATE_CUSTOMER: ChangeSpec = {
  ...takesInput('CustomerCreateInput'),
  field: 'customerCreate',
  entity: 'customer',
  selects: 'id',
  mayRefuse: false,
};
const PLACE_ORDER: ChangeSpec = {
  ...takesInput('OrderPlaceInput'),
  field: 'orderPlace',
  entity: 'order',
  selects: 'id total { amount currency }',
  mayRefuse: true,
};
const FIND_PRODUCT = 'query ($sku: String!) { found: productBySku(sku: $sku) { id } }';

function takesInput(type: string): Pick<ChangeSpec, 'declares' | 'passes'> {
  return { declares: `$input: ${type}!`, passes: 'input: $input' };
}

function documentOf({ field, declares, passes, entity, selects, mayRefuse }: ChangeSpec): string {
  const success = `${field[0]?.toUpperCase()}${field.slice(1)}Success`;
  const refusals = mayRefuse ? ' ... on Refusal { code message }' : '';
  return `mutation (${declares}) {
  ${field}(${passes}) { __typename ... on ${success} { cursor ${entity} { ${selects} } }${refusals} }
}`;
}

/** What the documents above select, of a success or of a refusal. */
interface Selected {
  readonly cursor?: string;
  readonly code?: string;
  readonly message?: string;
  readonly product?: SelectedEntity;
  readonly customer?: SelectedEntity;
  readonly order?: SelectedEntity;
}

interface SelectedEntity {
  readonly id: string;
  readonly total?: { readonly amount: string; readonly currency: string };
}

function readChange({ field, entity }: ChangeSpec, answer: Answer): Change {
  if (answer.status === 'failed') return { status: 'refused', field, code: answer.code, message: answer.message };
  const { cursor, code = 'UNKNOWN', message = '', [entity]: made } = answer.value as Selected; // typed by the document
  if (made === undefined || cursor === undefined) return { status: 'refused', field, code, message };
  return { status: 'done', id: made.id, cursor, totalPence: made.total === undefined ? 0n : readTotal(made.total) };
}

function readTotal({ amount, currency }: NonNullable<SelectedEntity['total']>): bigint {
  const pence = currency === CURRENCY ? readAmount(amount) : undefined;
  if (pence === undefined) throw new Error(`expected a total such as 12.50 ${CURRENCY}, found ${amount} ${currency}`);
  return pence;
}

function readId(value: unknown): string | undefined {
  return (value as { readonly id: string } | null)?.id; // typed by FIND_PRODUCT
}

function money(pence: bigint): { readonly amount: string; readonly currency: string } {
  return { amount: writeAmount(pence), currency: CURRENCY };
}
