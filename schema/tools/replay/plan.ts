import type { CustomerDraft, ProductDraft } from '../store.ts';
import type { Row } from './csv.ts';
import type { Sale } from './row.ts';

/** What is to be sent, in its order, and what was refused. */
export interface Plan {
  /** Begins every idempotency key: the same file gives the same. */
  readonly keyPrefix: string;
  /** Title and price are the first in order of time, the stock is what the whole file sells. */
  readonly products: readonly ProductDraft[];
  readonly customers: readonly CustomerDraft[];
  /** In order of time; at one time, in order of the file. */
  readonly invoices: readonly InvoicePlan[];
  /** Of the invoices above. */
  readonly totalPence: bigint;
  readonly rows: RowCount;
}

export interface InvoicePlan {
  readonly number: string;
  readonly customer: string | undefined;
  readonly lines: readonly LinePlan[];
}

export interface LinePlan {
  readonly sku: string;
  readonly quantity: number;
  readonly pence: bigint;
}

export interface RowCount {
  readonly read: number;
  readonly refused: number;
  /** The first of them; one of a whole invoice stands for its rows. */
  readonly refusals: readonly RowRefusal[];
}

export interface RowRefusal {
  readonly line: number;
  readonly column: string;
  readonly reason: string;
}

export interface PlanOptions {
  /** Of the file, in hex. */
  readonly sha256: string;
  /** Only so many invoices, the first in order of time. Products keep what the whole file says of them. @default all */
  readonly maxInvoices?: number | undefined;
}

export type Phase = 'products' | 'customers' | 'orders';

/** How many there are to send in a phase. */
export function countOf({ products, customers, invoices }: Plan, phase: Phase): number {
  return { products, customers, orders: invoices }[phase].length;
}

/** As many as an order may have. */
const MAX_LINES = 1_000;
const MAX_REFUSALS = 20;

/** Makes of rows what is to be sent. Keeps one small object per accepted row. */
export async function makePlan(rows: AsyncIterable<Row>, { sha256, maxInvoices }: PlanOptions): Promise<Plan> {
  const draft = await collect(rows);
  const invoices = refuseLong(draft)
    .sort((a, b) => a.atMinute - b.atMinute || a.line - b.line)
    .slice(0, maxInvoices);
  const skus = new Set(invoices.flatMap(({ lines }) => lines.map(({ sku }) => sku)));
  const buyers = new Set(invoices.map(({ customer }) => customer));
  return {
    keyPrefix: `replay:${sha256.slice(0, 12)}`,
    products: [...draft.products.values()].filter(({ sku }) => skus.has(sku)),
    customers: [...draft.customers.values()].filter(({ id }) => buyers.has(id)),
    invoices,
    totalPence: invoices
      .flatMap(({ lines }) => lines)
      .reduce((sum, line) => sum + BigInt(line.quantity) * line.pence, 0n),
    rows: draft.rows,
  };
}

interface Draft {
  readonly products: Map<string, ProductDraft & Dated>;
  readonly customers: Map<string, CustomerDraft & Dated>;
  readonly invoices: Map<string, InvoiceDraft>;
  readonly rows: { read: number; refused: number; readonly refusals: RowRefusal[] };
}

/** As known by the rows so far; the first in order of time counts. */
interface Dated {
  readonly atMinute: number;
}

interface InvoiceDraft {
  readonly number: string;
  readonly customer: string | undefined;
  /** Of its first row. */
  readonly line: number;
  /** The earliest of its rows. */
  atMinute: number;
  readonly lines: LinePlan[];
}

async function collect(rows: AsyncIterable<Row>): Promise<Draft> {
  const draft: Draft = {
    products: new Map(),
    customers: new Map(),
    invoices: new Map(),
    rows: { read: 0, refused: 0, refusals: [] },
  };
  for await (const row of rows) {
    draft.rows.read += 1;
    const refusal = 'refused' in row ? row.refused : addToInvoice(draft, row);
    if (refusal !== undefined) refuse(draft, { line: row.line, ...refusal });
    else if ('sale' in row) addPartners(draft, row.sale);
  }
  return draft;
}

function refuse({ rows }: Draft, refusal: RowRefusal, count = 1): void {
  rows.refused += count;
  rows.refusals.push(refusal);
  // invoices that turn out too long are refused last, and stand in their place all the same
  rows.refusals.sort((a, b) => a.line - b.line).splice(MAX_REFUSALS);
}

type NumberedSale = { readonly line: number; readonly sale: Sale };

function addToInvoice({ invoices }: Draft, { line, sale }: NumberedSale): Omit<RowRefusal, 'line'> | undefined {
  const { invoice: number, customer, atMinute } = sale;
  const invoice = invoices.get(number) ?? { number, customer, line, atMinute, lines: [] };
  if (invoice.customer !== customer) {
    const expected = `${invoice.customer ?? 'nothing'} as in line ${invoice.line}`;
    return { column: 'CustomerID', reason: `expected ${expected}, found ${customer ?? 'nothing'}` };
  }
  invoices.set(number, invoice);
  invoice.atMinute = Math.min(invoice.atMinute, atMinute);
  invoice.lines.push({ sku: sale.sku, quantity: sale.quantity, pence: sale.pence });
  return undefined;
}

function addPartners({ products, customers }: Draft, sale: Sale): void {
  const { sku, title, pence, quantity, atMinute, customer: id, country } = sale;
  const product = products.get(sku);
  const stock = (product?.stock ?? 0) + quantity;
  const isFirst = product === undefined || atMinute < product.atMinute;
  products.set(sku, isFirst ? { sku, title, pence, stock, atMinute } : { ...product, stock });
  if (id === undefined) return;
  const customer = customers.get(id);
  if (customer === undefined || atMinute < customer.atMinute) customers.set(id, { id, country, atMinute });
}

/** The invoices without those that an order can't hold, whose rows are refused together. */
function refuseLong(draft: Draft): InvoiceDraft[] {
  return [...draft.invoices.values()].filter(({ number, line, lines: { length } }) => {
    if (length <= MAX_LINES) return true;
    const reason = `expected at most 1,000 lines in invoice ${number}, found ${length}; all of them are refused`;
    refuse(draft, { line, column: 'InvoiceNo', reason }, length);
    return false;
  });
}
