import { z } from 'zod';
import { decimal, EngineError, snapshot } from '#engine';
import { quote } from '../input.ts';
import { CURRENCIES } from './currencies.ts';

export const Money = snapshot('Money', {
  amount: decimal().describe('Exact, with all digits of the currency: `"12.50"`.'),
  currency: z.string().describe('ISO 4217: `GBP`.'),
}).describe('An exact amount of money.');

export interface MoneyInput {
  readonly amount: string;
  readonly currency: string;
}

/** Money as the database keeps it: 12.50 GBP is 1250 minor units. */
export interface MinorMoney {
  readonly minor: number;
  readonly currency: string;
}

const MAX_MINOR = BigInt(Number.MAX_SAFE_INTEGER);

export function toMinor({ amount, currency }: MoneyInput, field: string): MinorMoney {
  const digits = CURRENCIES.get(currency);
  if (digits === undefined) {
    throw new EngineError(
      'BAD_INPUT',
      `${field}.currency: expected an ISO 4217 code such as "GBP", found ${quote(currency)}`,
    );
  }
  const [, whole = '', fraction = ''] = /^(\d+)(?:\.(\d+))?$/.exec(amount) ?? [];
  if (whole === '' || fraction.length > digits) {
    throw new EngineError(
      'BAD_INPUT',
      `${field}.amount: expected 0 or more with at most ${digits} digits behind the point for ${currency}, found ${quote(amount)}`,
    );
  }
  return { minor: toSafe(BigInt(whole + fraction.padEnd(digits, '0')), `${field}.amount`), currency };
}

export function fromMinor({ minor, currency }: MinorMoney): z.infer<typeof Money> {
  const digits = CURRENCIES.get(currency) ?? 0;
  if (digits === 0) return { amount: String(minor), currency };
  const text = String(minor).padStart(digits + 1, '0');
  return { amount: `${text.slice(0, -digits)}.${text.slice(-digits)}`, currency };
}

/** The exact sum of prices times quantities. */
export function totalMinor(
  lines: readonly { readonly quantity: number; readonly unit_price_minor: number }[],
  field: string,
): number {
  const total = lines.reduce((sum, line) => sum + BigInt(line.quantity) * BigInt(line.unit_price_minor), 0n);
  return toSafe(total, field);
}

function toSafe(minor: bigint, field: string): number {
  if (minor > MAX_MINOR) {
    throw new EngineError('BAD_INPUT', `${field}: expected less than 2^53 minor units, found ${minor}`);
  }
  return Number(minor);
}
