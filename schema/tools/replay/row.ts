import { readPrice } from '../pence.ts';

/** The columns that a file must have, in any order; others are passed over. */
export const COLUMNS = [
  'InvoiceNo',
  'StockCode',
  'Description',
  'Quantity',
  'InvoiceDate',
  'UnitPrice',
  'CustomerID',
  'Country',
] as const;

export type Column = (typeof COLUMNS)[number];

/** One line of an invoice. */
export interface Sale {
  readonly invoice: string;
  readonly sku: string;
  readonly title: string;
  readonly quantity: number;
  /** As in the file, without a time zone: minutes since 1970. */
  readonly atMinute: number;
  readonly pence: bigint;
  /** Undefined for a guest. */
  readonly customer: string | undefined;
  readonly country: string | undefined;
}

/** Why a row was not taken: what was expected in a column, and what was found. */
export class RowRefused extends Error {
  readonly column: Column;

  constructor(column: Column, expected: string, found: string) {
    super(`expected ${expected}, found ${found}`);
    this.column = column;
  }
}

/**
 * Reads the fields of a row as one line of an invoice. Blanks around a field are dropped.
 * @throws RowRefused for the first column that is not as it should be
 */
export function readSale(field: (column: Column) => string): Sale {
  const read = <Value>(column: Column, expected: string, parse: (text: string) => Value | undefined): Value => {
    const text = field(column).trim();
    const value = parse(text);
    if (value === undefined) throw new RowRefused(column, expected, quote(text));
    return value;
  };
  return {
    invoice: readInvoice(field('InvoiceNo').trim()),
    sku: read('StockCode', '1 to 64 visible ASCII characters, no blanks, quotes or backslashes', (text) =>
      /^(?!.*["\\])[!-~]{1,64}$/.test(text) ? text : undefined,
    ),
    title: read('Description', '1 to 200 visible characters', (text) => readText(text, 200)),
    quantity: read('Quantity', 'a whole number from 1 to 1,000,000', readQuantity),
    atMinute: read('InvoiceDate', 'a date such as 12/31/2010 9:05, month first', readMinute),
    pence: read('UnitPrice', 'more than 0, with at most 2 digits behind the point', readPrice),
    customer: read('CustomerID', 'at most 64 visible ASCII characters, or nothing for a guest', (text) =>
      /^[!-~]{0,64}$/.test(text) ? { id: text || undefined } : undefined,
    ).id,
    country: read('Country', 'at most 100 visible characters', (text) =>
      text === '' ? { name: undefined } : asName(readText(text, 100)),
    ).name,
  };
}

/** Minutes since 1970 of `M/D/YYYY H:MM`, a day that the calendar has; undefined for any other text. */
export function readMinute(text: string): number | undefined {
  const parts = /^(\d{1,2})\/(\d{1,2})\/(\d{4}) (\d{1,2}):(\d\d)$/.exec(text);
  if (parts === null) return undefined;
  const [month = 0, day = 0, year = 0, hour = 0, minute = 0] = parts.slice(1).map(Number);
  if (year < 1900 || hour > 23 || minute > 59) return undefined;
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute));
  // the 31st of June would be the 1st of July
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  return date.getTime() / 60_000;
}

function readInvoice(text: string): string {
  if (/^C\d+$/i.test(text)) throw new RowRefused('InvoiceNo', 'an invoice', `the cancellation ${quote(text)}`);
  if (/^[\w-]{1,64}$/.test(text)) return text;
  throw new RowRefused('InvoiceNo', '1 to 64 letters, digits and hyphens', quote(text));
}

function readText(text: string, max: number): string | undefined {
  return text.length >= 1 && text.length <= max && !/\p{Cc}/u.test(text) && text.isWellFormed() ? text : undefined;
}

function asName(name: string | undefined): { readonly name: string } | undefined {
  return name === undefined ? undefined : { name };
}

function readQuantity(text: string): number | undefined {
  return /^\d{1,7}$/.test(text) && Number(text) >= 1 && Number(text) <= 1_000_000 ? Number(text) : undefined;
}

/** What was found, short enough for a message. */
function quote(text: string): string {
  if (text === '') return 'nothing';
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
