import type { Change, CustomerDraft, OrderDraft, ProductDraft, Store } from '../store.ts';
import { forEach } from './each.ts';
import type { InvoicePlan, Phase, Plan } from './plan.ts';

export interface RunOptions {
  readonly store: Store;
  readonly concurrency: number;
  /** Aborting it starts nothing new; orders under way are finished. */
  readonly signal: AbortSignal;
  /** Counts what was done; may be looked at while the run goes on. */
  readonly tally: Tally;
}

/** What became of a plan so far. Each number counts answers, whether the change was made now or in an earlier run. */
export interface Tally {
  phase: Phase;
  /** Acknowledged, of all kinds. */
  changes: number;
  /** Items of the phase that are over, well or not. */
  finished: number;
  products: number;
  /** Those that were there under another idempotency key. */
  productsFound: number;
  customers: number;
  placed: number;
  paid: number;
  shipped: number;
  totalPence: bigint;
  readonly problems: Problem[];
}

/** One change that was refused, and what it leaves undone. */
export interface Problem {
  /** `product 22196`, `invoice 536389` … */
  readonly of: string;
  readonly reason: string;
}

export function createTally(): Tally {
  return {
    phase: 'products',
    changes: 0,
    finished: 0,
    products: 0,
    productsFound: 0,
    customers: 0,
    placed: 0,
    paid: 0,
    shipped: 0,
    totalPence: 0n,
    problems: [],
  };
}

/**
 * Sends a plan: products, then customers, then the orders in order of time, each placed, paid and shipped.
 * What the server refuses is noted, and the rest goes on.
 * @throws ToolError, ServerLost: the run can't go on
 */
export async function run(plan: Plan, options: RunOptions): Promise<void> {
  const { tally } = options;
  const phase = async <Item>(name: Phase, items: readonly Item[], work: (item: Item) => Promise<void>) => {
    if (options.signal.aborted) return;
    Object.assign(tally, { phase: name, finished: 0 });
    await forEach(items, options, async (item) => {
      await work(item);
      tally.finished += 1;
    });
  };
  const ids: Ids = { products: new Map(), customers: new Map() };
  await phase('products', plan.products, (product) => sendProduct(product, ids, options));
  await phase('customers', plan.customers, (customer) => sendCustomer(customer, ids, options));
  await phase('orders', plan.invoices, (invoice) => sendInvoice(invoice, ids, options));
}

/** What the server calls what the file names. */
interface Ids {
  readonly products: Map<string, string>;
  readonly customers: Map<string, string>;
}

type Sending = Pick<RunOptions, 'store' | 'tally'>;

async function sendProduct(product: ProductDraft, { products }: Ids, { store, tally }: Sending): Promise<void> {
  const { sku } = product;
  const made = await store.createProduct(product);
  if (made.status === 'done') {
    tally.products += 1;
    products.set(sku, made.id);
    return;
  }
  const found = made.code === 'SKU_TAKEN' ? await store.findProduct(sku) : undefined;
  if (found === undefined) return void tally.problems.push({ of: `product ${sku}`, reason: explain(made) });
  tally.productsFound += 1;
  products.set(sku, found);
}

async function sendCustomer(customer: CustomerDraft, { customers }: Ids, { store, tally }: Sending): Promise<void> {
  const made = await store.createCustomer(customer);
  if (made.status === 'refused') {
    return void tally.problems.push({ of: `customer ${customer.id}`, reason: explain(made) });
  }
  tally.customers += 1;
  customers.set(customer.id, made.id);
}

async function sendInvoice(invoice: InvoicePlan, ids: Ids, { store, tally }: Sending): Promise<void> {
  const refuse = (reason: string) => void tally.problems.push({ of: `invoice ${invoice.number}`, reason });
  const draft = toDraft(invoice, ids);
  if ('missing' in draft) return refuse(`not placed: there is no ${draft.missing}`);
  const placed = await store.placeOrder(draft);
  if (placed.status === 'refused') return refuse(explain(placed));
  tally.placed += 1;
  tally.totalPence += placed.totalPence;
  for (const [move, count] of [
    ['pay', 'paid'],
    ['ship', 'shipped'],
  ] as const) {
    const moved = await store.moveOrder({ invoice: invoice.number, id: placed.id, move });
    if (moved.status === 'refused') return refuse(explain(moved));
    tally[count] += 1;
  }
}

function toDraft(
  { number, customer, lines }: InvoicePlan,
  { products, customers }: Ids,
): OrderDraft | { readonly missing: string } {
  const customerId = customer === undefined ? undefined : customers.get(customer);
  if (customer !== undefined && customerId === undefined) return { missing: `customer ${customer}` };
  const known = lines.flatMap(({ sku, ...line }) => {
    const productId = products.get(sku);
    return productId === undefined ? [] : [{ ...line, productId }];
  });
  if (known.length === lines.length) return { invoice: number, customerId, lines: known };
  return { missing: `product ${lines.find(({ sku }) => !products.has(sku))?.sku}` };
}

function explain({ field, code, message }: Extract<Change, { status: 'refused' }>): string {
  return `${field} answered ${code}: ${message}`;
}
