import { readFile, writeFile } from 'node:fs/promises';
import { parse } from 'csv-parse/sync';
import { seeded } from '../kill-embedded.ts';
import { fromPence, toPence } from './money.ts';

/** A file of a retailer's invoices, and what replaying it must bring about. */
export interface InvoiceFile {
  readonly path: string;
  /** Acknowledged changes: a product and a customer each once; place, pay and ship for each invoice. */
  readonly changes: number;
  readonly invoices: number;
  readonly rows: number;
  /** Quantity times unit price over all rows: `93029.47`. */
  readonly total: string;
}

interface Row {
  readonly InvoiceNo: string;
  readonly StockCode: string;
  readonly Quantity: string;
  readonly InvoiceDate: string;
  readonly UnitPrice: string;
  readonly CustomerID: string;
}

/** Reads a file without bad rows. With `first`, counts only that many invoices, in order of time. */
export async function readInvoiceFile(path: string, { first = Number.POSITIVE_INFINITY } = {}): Promise<InvoiceFile> {
  // the columns are the file's own; a missing one shows as NaN or a failing price
  const all = parse(await readFile(path), { columns: true, bom: true }) as Row[];
  const times = new Map<string, number>();
  for (const { InvoiceNo, InvoiceDate } of all) {
    times.set(InvoiceNo, Math.min(times.get(InvoiceNo) ?? Number.POSITIVE_INFINITY, Date.parse(`${InvoiceDate} UTC`)));
  }
  const chosen = new Set(
    [...times]
      .sort(([, a], [, b]) => a - b)
      .slice(0, first)
      .map(([invoice]) => invoice),
  );
  const rows = all.filter(({ InvoiceNo }) => chosen.has(InvoiceNo));
  const products = new Set(rows.map(({ StockCode }) => StockCode.trim()));
  const customers = new Set(rows.map(({ CustomerID }) => CustomerID.trim()).filter((id) => id !== ''));
  return {
    path,
    changes: products.size + customers.size + 3 * chosen.size,
    invoices: chosen.size,
    rows: rows.length,
    total: fromPence(rows.reduce((sum, row) => sum + BigInt(row.Quantity) * toPence(row.UnitPrice), 0n)),
  };
}

export interface InvoicePlan {
  readonly invoices: number;
  readonly rows: number;
  readonly products: number;
  readonly customers: number;
  readonly seed: number;
}

const COLUMNS = 'InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country';

/**
 * Writes invoices made up by lot, the same for the same plan: a third of them to guests, a code at several prices and
 * more than once in an invoice, descriptions with commas, quotes and stray blanks.
 */
export async function writeInvoices(path: string, plan: InvoicePlan): Promise<void> {
  const random = seeded(plan.seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const invoices = Array.from({ length: plan.invoices }, (_, at) => ({
    number: 700_001 + at,
    date: `12/${1 + Math.floor(at / 120)}/2010 ${8 + Math.floor((at % 120) / 10)}:${String((at % 10) * 6).padStart(2, '0')}`,
    customer: random() < 1 / 3 ? '' : String(12_000 + below(plan.customers)),
  }));
  const lines = Array.from({ length: plan.rows }, (_, at) => {
    // each invoice and each product at least once, as far as the rows go round
    const { number, date, customer } = invoices[at % plan.invoices] ?? { number: 0, date: '', customer: '' };
    const product = at < plan.products ? at : below(plan.products);
    const price = fromPence(BigInt(50 + 25 * (product % 40) + (random() < 0.1 ? 5 : 0)));
    return [number, 20_000 + product, describe(product), 1 + below(24), date, price, customer, 'United Kingdom'].join(
      ',',
    );
  });
  await writeFile(path, `${[COLUMNS, ...lines].join('\n')}\n`);
}

function describe(product: number): string {
  const texts = [`MUG No ${product}`, ` TEA TIN ${product} `, `"PLATE, BLUE ${product}"`, `"""BEST"" TRAY ${product}"`];
  return texts[product % texts.length] ?? '';
}
