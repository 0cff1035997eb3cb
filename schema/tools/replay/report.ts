import { writeAmount } from '../pence.ts';
import type { Plan } from './plan.ts';
import type { Tally } from './run.ts';

export interface ReportFacts {
  readonly plan: Plan;
  readonly tally: Tally;
  readonly seconds: number;
}

/** Refusals that are shown of each kind. */
const MAX_SHOWN = 20;

/** What a run came to, as text of several lines. */
export function writeReport({ plan, tally, seconds }: ReportFacts): string {
  const { rows, products, customers, invoices } = plan;
  const refusals = rows.refusals.map(({ line, column, reason }) => `line ${line}, ${column}: ${reason}`);
  const problems = tally.problems.map(({ of, reason }) => `${of}: ${reason}`);
  return [
    entry('rows', `${count(rows.read)} read, ${count(rows.refused)} refused`),
    ...list(refusals, rows.refused),
    entry('products', `${outOf(tally.products + tally.productsFound, products)}${describeFound(tally)}`),
    entry('customers', outOf(tally.customers, customers)),
    entry(
      'orders',
      `${outOf(tally.placed, invoices)} placed, ${count(tally.paid)} paid, ${count(tally.shipped)} shipped`,
    ),
    ...(problems.length === 0 ? [] : [entry('refused', `${count(problems.length)} by the server`)]),
    ...list(problems, problems.length),
    entry('total', describeTotal(plan, tally)),
    entry(
      'time',
      `${seconds.toFixed(1)} s, ${count(tally.changes)} changes acknowledged (made now, or by an earlier run), ${count(tally.changes / seconds)} per second`,
    ),
    '',
  ].join('\n');
}

/** Whether all that the file has was taken, and adds up. */
export function isComplete({ plan, tally }: Pick<ReportFacts, 'plan' | 'tally'>): boolean {
  return (
    plan.rows.refused === 0 &&
    tally.problems.length === 0 &&
    tally.shipped === plan.invoices.length &&
    tally.totalPence === plan.totalPence
  );
}

function describeTotal({ totalPence, invoices }: Plan, tally: Tally): string {
  const sums = `${pounds(tally.totalPence)} by the server, ${pounds(totalPence)} by the file`;
  if (tally.totalPence === totalPence) return `${sums}: equal`;
  return `${sums}: ${tally.placed === invoices.length ? 'NOT EQUAL' : 'not all orders are placed'}`;
}

function describeFound({ productsFound }: Tally): string {
  if (productsFound === 0) return '';
  return ` (${count(productsFound)} of them were there before: their prices and stock are as they were)`;
}

function list(lines: readonly string[], total: number): readonly string[] {
  const shown = lines.slice(0, MAX_SHOWN).map((line) => `             ${line}`);
  return total > shown.length ? [...shown, `             and ${count(total - shown.length)} more`] : shown;
}

function entry(name: string, text: string): string {
  return `${name.padEnd(11)}${text}`;
}

function outOf(number: number, { length }: { readonly length: number }): string {
  return number === length ? count(number) : `${count(number)} of ${count(length)}`;
}

function pounds(pence: bigint): string {
  const amount = writeAmount(pence);
  return `GBP ${BigInt(amount.slice(0, -3)).toLocaleString('en')}${amount.slice(-3)}`;
}

function count(number: number): string {
  return Math.round(number).toLocaleString('en');
}
